"""Metrics of slides, cells and detections. Import from the modules."""
