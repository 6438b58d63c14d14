"""What is drawn of a cell: outlines, nuclei, kinds and lesions, down to dye density."""
