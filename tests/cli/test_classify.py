"""``stride-monai classify`` as a user meets it: odd files, lists, shipped and own weights, real cells."""

from __future__ import annotations

import csv
import json
import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
from bundle_cohort import CROP_PX, make_cohort
from classify_toys import cell_bundles, cell_picture, save, table_of
from PIL import Image

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.data.cells import read_cells
from stride_monai.files import sha256_of
from stride_monai.phantom.cohorts.cohort import make_slides
from stride_monai.phantom.cohorts.design import CohortDesign

COLUMNS = ["class", *(f"p_{name}" for name in CELL_CLASSES)]


def classify(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = processes.run("stride_monai", ["classify", *arguments], cwd=cwd)
    assert "Traceback" not in done.stdout + done.stderr
    return done


def sane(rows: list[dict[str, str]]) -> None:
    for row in rows:
        assert row["error"] == "", row
        found = [float(row[f"p_{name}"]) for name in CELL_CLASSES]
        assert sum(found) == pytest.approx(1, abs=1e-5)
        assert row["class"] == CELL_CLASSES[int(np.argmax(found))]


@pytest.mark.skipif(os.name != "posix", reason="names that Windows does not allow")
def test_every_odd_file_fails_alone_and_says_why(tmp_path: Path) -> None:
    home, folder = cell_bundles(tmp_path / "bundles"), tmp_path / "cells"
    folder.mkdir()
    image = Image.fromarray(cell_picture())
    deep = np.asarray(image.convert("L")).astype(np.uint16)
    turned = Image.Exif()
    turned[0x112] = 6
    pages = {"save_all": True, "append_images": [image.rotate(90, expand=False, fillcolor="red")]}
    for name, made, options in (
        ("rgb.png", image, {}),
        ("grey.png", image.convert("L"), {}),
        ("alpha.png", image.convert("RGBA"), {}),
        ("inks.jpg", image.convert("CMYK"), {}),
        ("turned.jpg", image, {"exif": turned}),
        ("pages.tif", image, pages),
        ("moves.png", image, pages),
        ("deep.png", Image.fromarray(deep * 257), {}),
        ("deep12.png", Image.fromarray(deep * 16), {}),
        ("=1+1.png", image, {}),
        ("a\nb.png", image, {}),
        (".hidden.png", image, {}),
        ("dot.png", image.resize((1, 1)), {}),
    ):
        made.save(folder / name, **options)
    (folder / "x.png").mkdir()
    image.save(folder / "x.png" / "in.png")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xe9.png")).write_bytes((folder / "rgb.png").read_bytes())
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("no picture")
    (folder / "cut.jpg").write_bytes((folder / "turned.jpg").read_bytes()[:600])
    (folder / "dead.png").symlink_to("nowhere.png")
    (folder / "camera.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    (folder / "notes.doc").write_text("x")
    asked = ["--mpp", "0.5", "--bundles", home, "--profile", "paper", "--out"]
    done = classify("cells", *asked, "out", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    rows = {row["path"]: row for row in table_of(tmp_path / "out")}
    failed = {name: row["error"] for name, row in rows.items() if row["error"]}
    for name, why in {
        "cut.jpg": "damaged",
        "dead.png": "does not exist",
        "deep12.png": "16-bit samples",
        "empty.png": "is empty",
        "camera.heic": "HEIC files are not read",
        "moves.png": "an animation of 2 pictures",
        "text.png": "is no slide or image",
    }.items():
        assert why in failed.pop(name)
        assert name in done.stderr
    assert failed == {}
    good = {"rgb.png", "grey.png", "alpha.png", "inks.jpg", "turned.jpg", "pages.tif", "deep.png", "'=1+1.png"}
    good |= {"a%0Ab.png", "dot.png", "x.png/in.png", "%E9.png"}
    assert {name for name, row in rows.items() if not row["error"]} == good
    sane([row for row in rows.values() if not row["error"]])
    same = [[rows[name][column] for column in COLUMNS] for name in ("rgb.png", "alpha.png", "pages.tif", "%E9.png")]
    assert same == same[:1] * 4
    assert rows["turned.jpg"]["note"] == "turned upright (orientation 6 of the file)"
    assert (rows["turned.jpg"]["crop_x"], rows["turned.jpg"]["crop_y"]) == ("15", "13")
    assert "plane 1 was read" in rows["pages.tif"]["note"]
    text = (tmp_path / "out" / "cells.csv").read_text()
    assert str(tmp_path) not in text
    assert "passed over as no pictures: .doc (1)" in done.stdout
    # The same as a list: a folder in it fails, and so does what is not there.
    names = [path.name for path in folder.iterdir() if path.name.isprintable() and path.name.isascii()]
    with (folder / "list.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["path"], *([name] for name in [*names, "gone.png"])])
    done = classify("cells/list.csv", *asked, "listed", cwd=tmp_path)
    listed = {row["path"]: row for row in table_of(tmp_path / "listed")}
    assert listed["x.png"]["error"] == "x.png is a folder, not a slide file: name the files or let a batch scan it"
    assert listed["gone.png"]["error"] == "gone.png does not exist: check the path"
    for name in set(listed) & good:
        assert listed[name] == rows[name]


def test_wrong_words_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    save(tmp_path / "a.png", cell_picture())
    (tmp_path / "list.csv").write_text("name,x\na.png,1\n")
    for arguments, says in (
        (["a.png", "--weights", "cell_cls=none.pt"], "there is no weights file"),
        (["list.csv"], "has no column"),
        (["a.png", "--boxes", "middle"], "unknown meaning of --boxes"),
        (["a.png", "--bundles", "."], "holds no bundle"),
    ):
        done = classify(*arguments, "--out", "out", cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert says in done.stderr
    assert not (tmp_path / "out").exists()
    done = classify("a.png", "--out", "out", cwd=tmp_path)
    assert done.returncode == 1
    assert "a.png states neither um/px nor objective power" in done.stderr
    assert "--mpp" in table_of(tmp_path / "out")[0]["error"]
    assert json.loads((tmp_path / "out" / "classify.json").read_text())["counts"]["failed"] == 1


@pytest.mark.slow
def test_points_on_a_phantom_slide_with_shipped_weights_and_words(tmp_path: Path) -> None:
    make_slides(tmp_path / "cohort", CohortDesign(classes=("HSIL",), diameter_mm=0.5, seed=11))
    (slide,) = (tmp_path / "cohort" / "slides").iterdir()
    cells = read_cells(tmp_path / "cohort" / "cells.csv")[:40]
    lines = [f"cohort/slides/{slide.name},{c.box.center[0]:.2f},{c.box.center[1]:.2f},{c.cell_class}" for c in cells]
    (tmp_path / "points.csv").write_text("\n".join(["path,x,y,label", *lines]) + "\n")
    done = classify("points.csv", "--out", "out", "--descriptions", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "described by text_align (as asked for)" in done.stdout
    assert "Research use only" in done.stdout
    rows = table_of(tmp_path / "out")
    assert len(rows) == len(cells)
    sane(rows)
    assert {row["mpp_source"] for row in rows} == {"metadata"}
    lesions = [row for row in rows if row["label"] != "NILM"]
    assert np.mean([row["class"] != "NILM" for row in lesions]) > 0.5, Counter(row["class"] for row in lesions)
    assert any(row["descriptions"] for row in rows)
    again = classify("points.csv", "--out", "again", "--descriptions", "--batch-size", "7", cwd=tmp_path)
    assert again.returncode == 0
    for name in ("cells.csv", "classify.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


@pytest.mark.slow
def test_weights_of_ones_own_from_training_to_a_table(tmp_path: Path) -> None:
    """The walk of a laboratory that has cells: train cell_cls, then classify with what it wrote."""
    make_cohort(tmp_path / "cohort")
    done = processes.run("stride_monai", ["bundle", "copy", "cell_cls", "--out", "bundles"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    configs = [f"bundles/cell_cls/configs/{name}.json" for name in ("train", "tiny")]
    small: dict[str, Any] = {"max_epochs": 1, "cells_per_epoch": 16, "batch_size": 8, "val_interval": 1}
    words = [word for name, value in small.items() for word in (f"--{name}", value)]
    where = ["--bundle_root", "bundles/cell_cls", "--dataset_dir", "cohort", "--output_dir", "trained"]
    done = processes.run("monai.bundle", ["run", "--config_file", str(configs), *where, *words], cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    cells = read_cells(tmp_path / "cohort" / "cells.csv")[:9]
    (tmp_path / "cells").mkdir()
    side = CROP_PX // 2
    for k, cell in enumerate(cells):
        (image,) = (tmp_path / "cohort").rglob(f"{cell.slide_id}.png")
        x, y = map(int, cell.box.center)
        Image.open(image).crop((x - side, y - side, x + side, y + side)).save(tmp_path / "cells" / f"{k}.png")
    done = classify(*("cells", "--mpp", "0.5", "--out", "out", "--weights", "cell_cls=trained/model.pt"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "model.pt, given" in done.stdout
    sane(table_of(tmp_path / "out"))
    facts = json.loads((tmp_path / "out" / "classify.json").read_text())
    assert facts["weights_sha256"] == {"cell_cls": sha256_of(tmp_path / "trained" / "model.pt")}
    assert facts["weights_from"]["cell_cls"]["files"] == [str(tmp_path / "trained" / "model.pt")]


@pytest.mark.slow
@pytest.mark.realdata
def test_real_cells_and_points_on_real_fields(real_data: Path, tmp_path: Path) -> None:
    crops = real_data / "crops"
    some = [path for folder in sorted(crops.iterdir()) for path in sorted(folder.iterdir())[:4]]
    (tmp_path / "crops.csv").write_text(
        "\n".join(["path,label", *(f"{path},{path.parent.name}" for path in some)]) + "\n"
    )
    done = classify("crops.csv", "--mpp", "0.5", "--out", "crops", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = table_of(tmp_path / "crops")
    assert [row["label"] for row in rows] == [path.parent.name for path in some]
    sane(rows)
    assert len({tuple(row[column] for column in COLUMNS) for row in rows}) == len(some), "pictures are told apart"
    assert {"padded", "cut"} <= {row["fit"] for row in rows}
    with (real_data / "cric" / "points.csv").open(newline="") as stream:
        points = list(csv.DictReader(stream))[:60]
    lines = [
        f"{real_data / 'cric' / p['image']},{p['nucleus_x']},{p['nucleus_y']},{p['bethesda_system']}" for p in points
    ]
    (tmp_path / "points.csv").write_text("\n".join(["path,x,y,label", *lines]) + "\n")
    done = classify("points.csv", "--mpp", "0.228", "--out", "cric", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = table_of(tmp_path / "cric")
    assert len(rows) == len(points)
    sane(rows)
    assert {row["mpp"] for row in rows} == {"0.228"}
    assert {row["fit"] for row in rows} <= {"", "padded"}
