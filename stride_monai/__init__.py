"""stride_monai: cervical-cytology screening (STRIDE) as a plug-in framework on MONAI.

Importing the package imports nothing heavy: every room loads torch, MONAI or a slide reader only when it is used.
"""

from importlib.metadata import PackageNotFoundError, version

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

try:
    __version__ = version("stride-monai")
except PackageNotFoundError:  # a source tree on sys.path that was never installed
    __version__ = "0+uninstalled"

__all__ += ["__version__"]
