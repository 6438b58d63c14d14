"""Networks: detector, cell classifier, slide heads and their weights files. Import from the modules."""
