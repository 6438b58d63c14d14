"""Jobs, and what runs them: the only loop over slides. Knows neither slides nor networks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
