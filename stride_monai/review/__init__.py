"""The page on which readers confirm, correct and add cells; needs the extra `review`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
