"""What all reports share; the room runs without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from stride_monai import __version__
from stride_monai.evaluation.reports import hash_of, header, plain, plain_list, save_figures, write_report
from stride_monai.files import sha256_of


def test_numbers_are_as_json_has_them() -> None:
    assert plain(np.float32(1 / 3)) == 0.333333
    assert plain_list([1, float("nan"), np.inf, np.int64(2)]) == [1.0, None, None, 2.0]


def test_a_report_is_written_with_its_facts(tmp_path: Path) -> None:
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"weights")
    assert (hash_of(weights), hash_of(None), hash_of("")) == (sha256_of(weights), None, None)
    write_report(tmp_path / "new" / "report.json", {**header("1.0"), "cells": 3})
    text = (tmp_path / "new" / "report.json").read_text()
    assert json.loads(text) == {"schema_version": "1.0", "package_version": __version__, "cells": 3}
    assert text.endswith("}\n")


def test_figures_are_written_by_name(tmp_path: Path) -> None:
    save_figures(tmp_path, {"one": Figure(figsize=(2, 1)), "two": Figure(figsize=(1, 1))})
    with Image.open(tmp_path / "one.png") as one:
        assert one.size == (300, 150)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "two.png"]


def test_evaluation_loads_no_torch() -> None:
    code = (
        "import sys, stride_monai.evaluation as room\n"
        "for name in dir(room): getattr(room, name)\n"
        "print(sorted({'torch', 'monai', 'ignite', 'openslide'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
