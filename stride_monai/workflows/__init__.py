"""Bundles: where they are, and running them so that overrides arrive as typed and errors take one line."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
