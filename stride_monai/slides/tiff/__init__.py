"""TIFF: what a file is (:mod:`layout`), from its own tags alone, and its tiles as RGB."""
