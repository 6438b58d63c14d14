"""Where the bundles are that came with the package. Imports nothing heavy: looking for a bundle needs no network."""

from __future__ import annotations

from pathlib import Path

import stride_monai
from stride_monai.errors import BundleError

__all__ = ["bundle_root"]


def bundle_root(name: str) -> Path:
    """Folder of a bundle that came with the package: in an installed wheel or in a checkout.

    Raises:
        BundleError: there is no bundle of that name.
    """
    package = Path(stride_monai.__file__).parent
    homes = (package / "bundles", package.parent / "bundles")
    for home in homes:
        if (home / name / "configs" / "metadata.json").is_file():
            return home / name
    found = sorted({path.parent.parent.name for home in homes for path in home.glob("*/configs/metadata.json")})
    raise BundleError(f"there is no bundle '{name}'", f"choose one of {', '.join(found)}" if found else "")
