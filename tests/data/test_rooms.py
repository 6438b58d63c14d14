"""Of data, only the data sets need torch."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import importlib, pkgutil, sys
import stride_monai.data
names = [m.name for m in pkgutil.walk_packages(stride_monai.data.__path__, "stride_monai.data.")]
for name in names:
    if ".datasets" not in name:
        importlib.import_module(name)
assert len(names) > 30
print(sorted({"torch", "monai", "ignite"} & set(sys.modules)))
"""


def test_tables_bags_and_importers_need_no_torch() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
