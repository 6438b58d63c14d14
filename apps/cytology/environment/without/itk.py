"""Stands for itk, which MONAI Label imports for DICOM and NIfTI and this app never uses."""

from typing import NoReturn


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(f"itk.{name}: radiology is not installed with the cytology app")
