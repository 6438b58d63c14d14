"""What bundles need beside MONAI's workflows: overrides that arrive as typed, overlays in order, errors in one line."""
