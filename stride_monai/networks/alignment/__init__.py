"""Cells aligned with the descriptions that explain them, and text encoders."""
