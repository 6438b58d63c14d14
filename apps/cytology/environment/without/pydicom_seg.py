"""Stands for pydicom_seg, which MONAI Label imports for DICOM and NIfTI and this app never uses."""

from typing import NoReturn


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(f"pydicom_seg.{name}: radiology is not installed with the cytology app")
