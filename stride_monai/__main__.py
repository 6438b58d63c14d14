"""``python -m stride_monai`` is ``stride-monai``."""

from stride_monai.cli.main import main

if __name__ == "__main__":
    main()
