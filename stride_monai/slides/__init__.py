"""Slides: pixels in. Any slide file, um/px, reading at any resolution, the deposit, tile grids, streams of tiles."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
