"""Importers: public and own annotated data as an ordinary cohort folder.

One module per format, each with a ``FORMAT`` (:class:`~stride_monai.data.Format`) that says what the
data set is and reads it; :mod:`~stride_monai.data.importers.cohort` checks what was read, maps its labels and writes.
Another package adds a format by the entry point group ``stride_monai.importers``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
