"""The command line, ``stride-monai`` = ``python -m stride_monai``."""
