"""Statistics of slide screening as pure functions of arrays: no files, no figures, no torch (METHOD section 8)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
