"""Reports, curves, tables and figures as pure functions of arrays and findings; needs neither torch nor MONAI."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
