"""Work in a process of its own, under limits: what aborts, stalls or fills the memory there costs that work alone.

Imports nothing heavy. The process that is guarded lives no longer than the one that guards it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
