"""Bag files: the ranked cells of one slide with their crops."""
