"""The walk of the README, from slides to screening with what was trained on them: its very commands, at smallest."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import processes
import pytest
from extras import needs

from stride_monai.files import sha256_of
from stride_monai.findings import Findings
from stride_monai.phantom.render import render_slide
from stride_monai.workflows.locate import bundle_root

README = bundle_root("detection").parent.parent / "README.md"
HEADING = "### From your slides to screening with what you trained"
SMALLER = {
    "phantom": "--slides 12 --diameter 0.3 --seed 2",
    "out/detection": "--max_epochs 1 --val_interval 1 --tile_px 128 --batch_size 8 --negatives_per_positive 0",
    "out/bags": "--tile_px 256 --top_k 16",
    "out/swift_mil": "--iterations 1 --top_k 8 --cell_batch_size 4 --batch_size 2",
    "out/calibrated": "--top_k 8",
    "screen": "--no-descriptions",
}
"""By command or by its ``--output_dir`` what is added to it; of an option that comes twice the last one counts."""


def commands() -> list[list[str]]:
    """The words of each command of the walk."""
    section = README.read_text(encoding="utf-8").partition(HEADING)[2]
    (block,) = re.findall(r"^```\n(.*?)^```", section.partition("\n## ")[0], re.MULTILINE | re.DOTALL)
    lines = re.sub(r"\\\n", "", block).splitlines()
    return [shlex.split(line, comments=True) for line in lines]


def smaller(words: list[str]) -> list[str]:
    name = words[words.index("--output_dir") + 1] if "--output_dir" in words else words[1]
    return [*words, *SMALLER.get(name, "").split()]


@pytest.mark.slow
def test_the_walk_of_the_readme_ends_with_results_of_what_was_trained(tmp_path: Path) -> None:
    needs("ultralytics", "yolo")
    for words in commands():
        module, rest = ("stride_monai", 1) if words[0] == "stride-monai" else (words[2], 3)
        done = processes.run(module, smaller(words)[rest:], cwd=tmp_path)
        assert done.returncode == 0, (words, done.stdout, done.stderr[-3000:])
    folders = sorted(path.parent for path in (tmp_path / "results").glob("*/findings.json"))
    assert len(folders) == 12
    trained = {"detection": "out/detection/model.pt", "swift_mil": "out/calibrated/calibrated.pt"}
    for folder in folders:
        findings = Findings.from_json((folder / "findings.json").read_text())
        provenance = findings.provenance
        assert provenance.weights == {name: sha256_of(tmp_path / file) for name, file in trained.items()}
        assert set(provenance.used["weights_from"].values()) == {"given"}
        assert findings.operating_point.holds, "it was set on bags of this very detector"
        assert findings.operating_point.bag_size == provenance.used["bag_size"] == 8
        assert findings.cells
        assert (folder / "report.html").is_file()
    run = json.loads((tmp_path / "results" / "run.json").read_text())["run"]
    assert run["weights_from"]["detection"]["files"] == [str(tmp_path / trained["detection"])]
    assert "model.pt, given" in done.stdout
    assert "no call" not in done.stdout


def test_the_lines_in_python_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    render_slide("slide.svs", "HSIL", diameter_mm=0.2, mpp=0.25, seed=1)
    (lines,) = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(lines, names)
    assert names["findings"].slide.file_name == "slide.svs"
    assert [path.name for path in tmp_path.glob("*.svs")] == ["slide.svs"]
    assert not (tmp_path / "results").exists(), "nothing is written unless it is asked for"
