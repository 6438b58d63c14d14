"""Cohorts: manifests, cell records, bag files, splits, importers, and the data sets that bundles train on."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
