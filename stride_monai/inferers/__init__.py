"""Inferers: a slide to ranked boxes, a bag to probabilities. Import from the modules."""
