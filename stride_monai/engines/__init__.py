"""Ignite trainers and evaluators on MONAI's engines. Import from the modules."""
