"""Detectors of lesion cells on tiles."""
