"""Importers: public and own annotated data as an ordinary cohort folder.

One module per format, each with a ``FORMAT`` (:class:`~stride_monai.data.Format`) that says what the
data set is and reads it; :mod:`~stride_monai.data.importers.cohort` checks what was read, maps its labels and writes.
Another package adds a format by the entry point group ``stride_monai.importers``.
"""

from stride_monai.data.importers.cohort import ImportReport, import_dataset
from stride_monai.data.importers.labels import EXCLUDED, LabelMap, Target
from stride_monai.data.importers.problems import Problem, ProblemLog
from stride_monai.data.importers.records import Format, Options, Place, Source, SourceCell, SourceImage, SourceRegion
from stride_monai.data.importers.registry import GROUP, format_names, load_format

__all__ = [
    "EXCLUDED",
    "GROUP",
    "Format",
    "ImportReport",
    "LabelMap",
    "Options",
    "Place",
    "Problem",
    "ProblemLog",
    "Source",
    "SourceCell",
    "SourceImage",
    "SourceRegion",
    "Target",
    "format_names",
    "import_dataset",
    "load_format",
]
