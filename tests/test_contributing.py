"""CONTRIBUTING.md's lines are run as they stand there: a package of plug-ins, and what each block says of it."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from findings_samples import make_findings, make_pictures
from monai.bundle import ConfigParser

from stride_monai import plugins
from stride_monai.findings import Screened
from stride_monai.workflows import bundle_root

PAGE = (Path(__file__).resolve().parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
USES = [block for kind, block in BLOCKS if kind == "python" and not block.startswith("# mylab/")]


@pytest.fixture
def mylab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The page's package, installed for the time of a test; the test stands in a folder of its own."""
    site = tmp_path / "site"
    (site / "mylab").mkdir(parents=True)
    for kind, block in BLOCKS:
        if kind == "python" and (named := re.match(r"# (mylab/\w+\.py)\n", block)):
            (site / named[1]).write_text(block, encoding="utf-8")
    (project,) = (tomllib.loads(block)["project"] for kind, block in BLOCKS if kind == "toml")
    info = site / "mylab-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [[f"[{group}]", *(f"{k} = {v}" for k, v in points.items())] for group, points in entry_points(project)]
    (info / "entry_points.txt").write_text("\n".join(line for group in lines for line in group))
    monkeypatch.syspath_prepend(str(site))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    plugins.declared.cache_clear()
    yield tmp_path / "here"
    plugins.declared.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        del sys.modules[name]


def entry_points(project: dict[str, Any]) -> Any:
    return project["entry-points"].items()


def test_the_page_has_a_reader_an_importer_a_writer_and_a_head() -> None:
    files = re.findall(r"^# mylab/(\w+)\.py$", PAGE, re.MULTILINE)
    assert files == ["reader", "importer", "writer", "heads"]
    assert len(USES) == 3


@pytest.mark.parametrize("number", range(len(USES)))
def test_what_the_page_says_of_a_plug_in_holds(number: int, mylab: Path) -> None:
    findings = make_findings(cells=3)
    screened = Screened(findings, make_pictures(findings), {})
    exec(compile(USES[number], f"CONTRIBUTING.md, block {number}", "exec"), {"screened": screened, "folder": mylab})


@pytest.mark.usefixtures("mylab")
def test_the_head_trains_in_its_place_in_the_bundle() -> None:
    (overlay,) = (json.loads(block) for kind, block in BLOCKS if kind == "json")
    config = ConfigParser.load_config_file(str(bundle_root("swift_mil") / "configs" / "train.json"))
    config = {**config, "encoder_name": "test_convnext", "top_k": 12, **overlay}
    network = ConfigParser(config).get_parsed_content("network_def")
    head = network.slide_head
    assert (type(head).__name__, head.most, head.feature_dim) == ("FirstCells", 8, network.encoder.feature_dim)
    features = torch.randn(2, 12, head.feature_dim, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(12) < torch.tensor([[12], [5]])
    logits, attention = head(features, mask)
    for row, count in enumerate((8, 5)):
        wanted = head.classifier(features[row, :count].mean(dim=0))
        torch.testing.assert_close(logits[row], wanted)
        torch.testing.assert_close(attention[row, :count], torch.full((count,), 1 / count))
        assert not attention[row, count:].any()
