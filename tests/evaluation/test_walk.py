"""One walk through the commands as a laboratory takes it: screen, choose, screen again, judge, watch, move.

Pictures with dark spots stand for slides, small networks screen them. Names, folders and words are Chinese, and all
commands run in a folder of their own.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
from evaluation_tables import write_rows
from PIL import Image
from toy_bundles import screening_home

from stride_monai.cli.main import main
from stride_monai.evaluation.figures import style
from stride_monai.operating_point import read_operating_point

SLIDES = 21  # a reference needs 20
CENTRES, SCANNERS = ("协和医院", "北京大学第三医院", "Ostklinik"), ("滨松", "江丰")
WORDS = {"阴性": "NILM", "低级别": "LSIL", "高级别": "HSIL"}
Command = Callable[..., str]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return screening_home(tmp_path_factory.mktemp("网络"))


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in a foreign folder, ``screen`` in a process of its own; gives what it printed."""
    (tmp_path / "别处").mkdir()
    monkeypatch.chdir(tmp_path / "别处")
    monkeypatch.setattr(style, "FORMATS", ("png",))  # the others take most of the time
    monkeypatch.setattr(style, "_DPI", 60)

    def run(*words: object) -> str:
        texts = [str(word) for word in words]
        if texts[0] == "screen":
            done = processes.run("stride_monai", texts)
            status, said = done.returncode, done.stdout + done.stderr
        else:
            monkeypatch.setattr(sys, "argv", ["stride-monai", *texts])
            status = 0
            try:
                main()
            except SystemExit as ended:
                status = int(ended.code or 0)
            printed = capsys.readouterr()
            said = printed.out + printed.err
        assert status == 0, (texts[0], said[-3000:])
        return " ".join(said.split())

    return run


def painted(folder: Path, name: str, seed: int) -> tuple[Path, list[tuple[int, int]]]:
    """A picture and where its dark spots are; the first spots of a slide are its lesions."""
    draw = np.random.default_rng(seed)
    image = np.full((300, 400, 3), 240, np.uint8)
    places = [(40 + 60 * k, int(draw.integers(40, 220))) for k in range(int(draw.integers(2, 6)))]
    for x, y in places:
        image[y : y + 50, x : x + 44] = draw.integers(20, int(draw.integers(40, 140)), (50, 44, 3))
    Image.fromarray(image).save(folder / f"{name}.png")
    return folder / f"{name}.png", places


def laboratory(folder: Path) -> dict[str, Path]:
    """Pictures of two splits, their truth with a laboratory's own words, marked cells, and another system's file."""
    truth, cells, other = [], [], []
    for first, (split, said) in enumerate((("val", "验证"), ("test", "测试"))):
        (folder / said).mkdir()
        for k in range(SLIDES):
            name = f"{said} 玻片 {k:02d}"
            label = ("阴性", "高级别", "阴性", "低级别")[k % 4]
            _, places = painted(folder / said, name, 100 * first + k)
            place = {"医院": CENTRES[k % 3], "病人": f"病人{k // 2}", "扫描仪": SCANNERS[k % 2]}
            truth.append({"slide_id": name, "诊断": label, "split": split, **place})
            if label != "阴性":
                x, y = places[0]
                box = {"x0": x, "y0": y, "x1": x + 44, "y1": y + 50}
                cells.append({"slide_id": name, **box, "label": WORDS[label]})
            if split == "test":
                risk = 20 + 60 * (label != "阴性") * (k % 3 > 0) + k % 7
                other.append({"片": {"号": f"{name}.kfb"}, "风险": risk, "结论": "阳" if risk > 50 else "阴"})
    (folder / "别家.json").write_text(json.dumps({"结果": other}), encoding="utf-8")
    their = {"slide_id": "片.号", "score": "风险", "call": "结论"}
    words = {"records": "结果", "columns": their, "slide_id_from": r"^(.*)\.kfb$", "score_scale": 100}
    words |= {"name": "别家系统", "calls": {"阳": "positive", "阴": "negative"}}
    (folder / "别家 映射.json").write_text(json.dumps(words), encoding="utf-8")
    columns = {"label": "诊断", "centre": "医院", "patient": "病人"}
    ours = "\n".join(f"  {key}: {value}" for key, value in columns.items())
    meant = "\n".join(f"  {word}: {label}" for word, label in WORDS.items())
    (folder / "真值 映射.yaml").write_text(f"columns:\n{ours}\nlabels:\n{meant}\n", encoding="utf-8")
    return {
        "truth": write_rows(folder / "真值.csv", truth),
        "cells": write_rows(folder / "细胞.csv", cells),
        "other": folder / "别家.json",
    }


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.slow
def test_from_pictures_to_a_report_and_to_the_weeks_after(command: Command, home: Path, tmp_path: Path) -> None:
    at = laboratory(tmp_path)
    point, validation, results = tmp_path / "操作点.json", tmp_path / "结果 验证", tmp_path / "结果 测试"
    truth = ("--truth", at["truth"], "--truth-map", tmp_path / "真值 映射.yaml")
    screening = ("--bundles", home, "--profile", "paper", "--mpp", "0.5", "--device", "cpu")
    screening += ("--writers", "findings,report")

    command("screen", tmp_path / "验证", "--out", validation, *screening)
    said = command("operating-point", validation, *truth, "--out", point, "--target", 0.9)
    assert f"of {SLIDES - 11}" in said, "the positive slides of the validation split, and no others"
    chosen = read_operating_point(point)
    assert (chosen.chosen_on.slides, chosen.chosen_on.split_from) == (SLIDES, "table")
    said = command("screen", tmp_path / "测试", "--operating-point", point, "--out", results, *screening)
    assert "calls by operating point 操作点.json" in said

    report = tmp_path / "报告"
    words = ("evaluate", results, *truth, "--out", report, "--split", "test", "--operating-point", point)
    words += ("--compare", at["other"], "--compare-map", tmp_path / "别家 映射.json", "--cells", at["cells"])
    words += ("--by", "扫描仪", "--by", "centre", "--validation", validation, "--model-card", home / "coloradv")
    said = command(*words, "--replicates", 50)
    table = f"{2 * SLIDES} slides in the truth table, {SLIDES} of another split"
    assert f"{table}, {SLIDES} with a diagnosis, {SLIDES} analysed" in said
    found = read(report / "metrics.json")
    assert found["operating_point"]["threshold"] == pytest.approx(chosen.threshold, abs=1e-6)
    with (results / "summary.csv").open(newline="", encoding="utf-8") as stream:
        calls = {row["slide_id"]: row["call"] for row in csv.DictReader(stream)}
    positive = [f"测试 玻片 {k:02d}" for k in range(SLIDES) if k % 2]
    assert found["operating_point"]["rates"]["tp"] == sum(calls[name] == "positive" for name in positive)
    assert set(found["subgroups"]) == {"扫描仪", "centre"}
    assert set(found["subgroups"]["centre"]) == set(CENTRES)
    assert found["comparison"]["slides"] == SLIDES
    page = (report / "report.html").read_text(encoding="utf-8")
    assert "别家系统" in page
    assert (report / "MODEL_CARD.md").is_file()
    assert str(tmp_path) not in page + json.dumps(found)

    theirs = (at["other"], "--map", tmp_path / "别家 映射.json", *truth, "--split", "test", "--replicates", 0)
    command("evaluate", *theirs, "--out", tmp_path / "别家")
    watched = tmp_path / "监控"
    said = command("monitor", results, "--reference", validation, "--out", watched)
    assert "within limits" in said
    assert "calls are not compared" in said, "the threshold is another since the operating point was chosen"
    assert read(watched / "monitor.json")["slides"] == SLIDES
    moved = tmp_path / "新中心"
    reference = ("--reference-truth", at["truth"])
    said = command(
        "transfer", results, "--reference", validation, "--operating-point", point, *truth, *reference, "--out", moved
    )
    assert set(read(moved / "transfer.json")["shifts"]) == {"all", "negative", "positive"}
