"""Losses of the learning methods, one file per method."""
