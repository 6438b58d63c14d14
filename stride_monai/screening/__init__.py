"""Screening: slides in, findings out; one slide in ``screener``, many in ``batch``."""
