"""Figures of evaluations, fit for a paper: matplotlib, one function each, no display."""
