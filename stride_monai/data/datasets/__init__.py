"""Data sets and samplers that bundles train on."""
