"""Cohorts: who is in them, and their slides or bags with manifest and truth."""
