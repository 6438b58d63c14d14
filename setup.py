"""Puts the bundles and their weights into the wheel, as ``stride_monai/bundles``. The metadata is in setup.cfg."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

# Not what trainings leave in a checkout.
SHIPPED = ("LICENSE", "overlay.json", "configs/*.json", "configs/logging.conf", "docs/**/*.*", "models/*.safetensors")


class BuildWithBundles(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # an editable install finds the bundles beside the package
            target = Path(self.build_lib) / "stride_monai" / "bundles"
            shutil.rmtree(target, ignore_errors=True)
            for path in sorted(path for pattern in SHIPPED for path in Path("bundles").glob(f"*/{pattern}")):
                place = target / path.relative_to("bundles")
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)


setup(cmdclass={"build_py": BuildWithBundles})
