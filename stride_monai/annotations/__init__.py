"""What readers said of cells and slides: append-only actions, their state, export; needs neither torch nor MONAI."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
