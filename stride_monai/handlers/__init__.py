"""Ignite handlers and metrics. Import from the modules: this room needs torch and MONAI."""
