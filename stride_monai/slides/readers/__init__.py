"""Slide readers, one file a library, and the registry that chooses one."""
