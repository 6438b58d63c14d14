"""Synthetic Papanicolaou slides and cohorts with known truth.

Every score on a synthetic slide is a software test, never evidence of clinical performance.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
