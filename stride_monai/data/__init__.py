"""Data: manifests, cell records, bag files, splits and the lists that bundles train on. Importable without torch."""

from stride_monai.data.bag import BAG_SUFFIX, BagCell, BagFile, BagHeader, encode_crop, write_bag
from stride_monai.data.cells import CellRecord, read_cells, write_cells
from stride_monai.data.manifest import SPLITS, SlideRecord, read_manifest, write_manifest
from stride_monai.data.ranking import rank_boxes
from stride_monai.data.splits import split_by_patient

__all__ = [
    "BAG_SUFFIX",
    "SPLITS",
    "BagCell",
    "BagFile",
    "BagHeader",
    "CellRecord",
    "SlideRecord",
    "encode_crop",
    "rank_boxes",
    "read_cells",
    "read_manifest",
    "split_by_patient",
    "write_bag",
    "write_cells",
    "write_manifest",
]
