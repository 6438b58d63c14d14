"""Classification of single cells: pictures of cells, or points and boxes on slides, to a table of classes."""
