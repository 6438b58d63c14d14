"""A wheel built from the checkout works without the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_bundles_and_weights_travel_with_the_wheel(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for bundle in ("detection", "cell_cls", "swift_mil", "text_align"):
        for name in ("configs/metadata.json", "configs/inference.json", "LICENSE", "models/tiny.safetensors"):
            assert (site / "stride_monai" / "bundles" / bundle / name).is_file(), f"{bundle}/{name} is not in the wheel"
    page = site / "stride_monai" / "review"
    for name in ("static/index.html", "static/js/main.js", "static/vendor/annotorious/LICENSE", "texts/zh.json"):
        assert (page / name).is_file(), f"{name} of the review page is not in the wheel"
    bundles = (path for path in (site / "stride_monai" / "bundles").rglob("*") if path.is_file())
    assert {path.suffix or path.name for path in bundles} == {".json", ".conf", ".md", ".safetensors", "LICENSE"}
    doctor = [sys.executable, "-m", "stride_monai", "doctor", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(doctor, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    report = json.loads(done.stdout)
    weights = [check for check in report["checks"] if check["name"].startswith("weights")]
    found = [check for check in weights if check["state"] == "ok"]
    assert len(found) == len(list(site.rglob("*.safetensors"))) >= 4
    assert [check["name"] for check in weights if check not in found] == ["weights coloradv"]  # none ship
    where = "import stride_monai; print(stride_monai.__file__)"
    done = subprocess.run([sys.executable, "-c", where], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert Path(done.stdout.strip()).is_relative_to(site)
