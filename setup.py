"""Puts the bundles and their weights into the wheel, as ``stride_monai/bundles``. The metadata is in setup.cfg."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithBundles(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # an editable install finds the bundles beside the package
            target = Path(self.build_lib) / "stride_monai" / "bundles"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree("bundles", target, ignore=shutil.ignore_patterns("__pycache__", "*.part", ".gitkeep"))


setup(cmdclass={"build_py": BuildWithBundles})
