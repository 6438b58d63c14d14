"""Slide files: pyramids in Aperio's and Leica's layout, DICOM."""
