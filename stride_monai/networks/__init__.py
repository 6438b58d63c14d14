"""Networks: detectors, cell encoders, slide heads, description alignment, and their weights files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
