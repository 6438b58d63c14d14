"""Cell encoders: the cell classifier, and its training without labels."""
