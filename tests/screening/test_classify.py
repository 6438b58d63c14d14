"""Classification of single cells: what is read as a cell, which networks look at it, and that each fails alone."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from classify_toys import cell_bundles, cell_network, cell_picture, save, table_of
from toy_bundles import CROP_PX, make_classifier

import stride_monai as sm
from stride_monai.bethesda import CELL_CLASSES
from stride_monai.errors import BundleError, ConfigError, ManifestError, OutputError
from stride_monai.files import sha256_of
from stride_monai.networks.weights import save_weights
from stride_monai.screening.classify import guarded
from stride_monai.screening.classify.config import ClassifyConfig
from stride_monai.screening.classify.guarded import GuardedCells
from stride_monai.screening.classify.inputs import CellInput, CellInputs
from stride_monai.screening.classify.results import ClassifiedCell
from stride_monai.screening.classify.run import classified
from stride_monai.slides import background_color


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cell_bundles(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-one single cells in two folders, smaller and larger than the field of view of 16 um."""
    folder = tmp_path_factory.mktemp("pictures")
    for k in range(21):
        place = folder / ("one", "two")[k % 2]
        place.mkdir(exist_ok=True)
        save(place / f"{k:02}.png", cell_picture(k, 20 + 2 * k, 40 - k))
    return folder


def options(home: Path, **more: Any) -> dict[str, Any]:
    return {"bundles": home, "profile": "paper", "device": "cpu", "mpp": 0.5, **more}


def expected(pixels: Any) -> torch.Tensor:
    """Probabilities of a picture at the crops' um/px, by the slow way: on a canvas of its background, by itself."""
    canvas = np.empty((CROP_PX, CROP_PX, 3), np.uint8)
    height, width = pixels.shape[:2]
    shown = pixels[max(0, (height - CROP_PX) // 2) :, max(0, (width - CROP_PX) // 2) :][:CROP_PX, :CROP_PX]
    canvas[:] = background_color(shown)
    top, left = (-((side - CROP_PX) // 2) if side < CROP_PX else 0 for side in (height, width))
    canvas[top : top + shown.shape[0], left : left + shown.shape[1]] = shown
    with torch.inference_mode():
        image = torch.from_numpy(canvas).permute(2, 0, 1)[None].float() / 255
        found: torch.Tensor = cell_network()(image).double().softmax(dim=1)[0]
    return found


def test_each_picture_gets_what_the_network_says_of_it_alone(home: Path, pictures: Path) -> None:
    cells = sm.classify(pictures, **options(home))
    assert [cell.cell.name for cell in cells] == [
        f"{('one', 'two')[k % 2]}/{k:02}.png" for k in (*range(0, 21, 2), *range(1, 21, 2))
    ]
    for cell in cells:
        k = int(cell.cell.path.stem)
        wanted = expected(cell_picture(k, 20 + 2 * k, 40 - k))
        torch.testing.assert_close(torch.tensor(cell.probabilities, dtype=torch.float64), wanted, rtol=0, atol=2e-5)
        assert cell.cell_class == CELL_CLASSES[int(wanted.argmax())]
        fits = ["cut"] * (20 + 2 * k > CROP_PX or 40 - k > CROP_PX) + ["padded"] * (min(20 + 2 * k, 40 - k) < CROP_PX)
        assert cell.fit == " and ".join(fits)
        assert (cell.mpp, cell.mpp_source, cell.error) == (0.5, "given", "")
    assert len({cell.probabilities for cell in cells}) > 10, "the toy tells pictures apart"


def test_the_same_bytes_whatever_the_batch_size_and_whatever_else_there_is(
    home: Path, pictures: Path, tmp_path: Path
) -> None:
    for size in (1, 5, 64):
        sm.classify(pictures, out=tmp_path / str(size), batch_size=size, descriptions=True, **options(home))
    first = {path.name: path.read_bytes() for path in (tmp_path / "64").iterdir()}
    assert {"cells.csv", "classify.json", "files.json"} <= first.keys()
    for size in (1, 5):
        assert {path.name: path.read_bytes() for path in (tmp_path / str(size)).iterdir()} == first
    alone = sm.classify([pictures / "two" / "07.png"], descriptions=True, **options(home))
    (row,) = (row for row in table_of(tmp_path / "64") if row["path"] == "two/07.png")
    assert [row[f"p_{name}"] for name in CELL_CLASSES] == [f"{p:.6f}" for p in alone[0].probabilities]
    assert row["descriptions"] == "|".join(text.text for text in alone[0].descriptions) != ""


def test_no_more_crops_are_asked_for_than_the_batch_size_says(tmp_path: Path) -> None:
    """And names come as they are needed: the first cells are done before the last ones are looked for."""
    looked, asked = [], []

    def names() -> Any:
        for k in range(7):
            looked.append(k)
            yield CellInput(tmp_path / f"{k}.png", str(k))

    class Counts:
        used = None

        def __call__(self, cells: Sequence[CellInput]) -> list[ClassifiedCell]:
            asked.append((len(cells), len(looked)))
            return [ClassifiedCell(cell) for cell in cells]

    assert len(list(classified(Counts(), names(), 3))) == 7
    assert asked == [(3, 3), (3, 6), (1, 7)]
    with pytest.raises(ConfigError, match="invalid --batch-size 0"):
        sm.classify(tmp_path, out=tmp_path / "out", batch_size=0)


def test_points_and_boxes_are_crops_of_the_slide_around_them(home: Path, tmp_path: Path) -> None:
    field = np.full((90, 120, 3), (232, 216, 226), np.uint8)
    for x, y, seed in ((30, 40, 1), (80, 45, 2), (4, 84, 3)):
        part = field[max(0, y - 8) : y + 8, max(0, x - 8) : x + 8]
        part[:] = cell_picture(seed, 16, 16)[-part.shape[0] :, : part.shape[1]]
    save(tmp_path / "field.png", field)
    (tmp_path / "lists").mkdir()
    head, rows = "path,x,y,label", ["30,40,HSIL", "80,45,=1+1", "4,84,", "-1,5,", "5,91,", "x,5,", ",5,", "NaN,5,"]
    points = tmp_path / "lists" / "points.csv"
    points.write_text("\n".join([head, *(f"../field.png,{row}" for row in rows), ",1,2,"]) + "\n")
    cells = sm.classify(points, out=tmp_path / "out", **options(home))
    for cell, (x, y) in zip(cells, ((30, 40), (80, 45)), strict=False):
        wanted = expected(field[y - 16 : y + 16, x - 16 : x + 16])
        torch.testing.assert_close(torch.tensor(cell.probabilities, dtype=torch.float64), wanted, rtol=0, atol=2e-5)
        assert (cell.center, cell.fit) == ((x, y), "")
    canvas = np.full((32, 32, 3), background_color(field[68:90, 0:20]), np.uint8)
    canvas[:22, 12:] = field[68:90, 0:20]
    torch.testing.assert_close(
        torch.tensor(cells[2].probabilities, dtype=torch.float64), expected(canvas), rtol=0, atol=2e-5
    )
    assert cells[2].fit == "padded"
    table = table_of(tmp_path / "out")
    assert [row["label"] for row in table] == ["HSIL", "'=1+1", *[""] * 7], "carried through, and no formula"
    assert [row["x"] for row in table[:4]] == ["30", "80", "4", "-1"]
    assert [bool(row["error"]) for row in table] == [False] * 3 + [True] * 6
    assert all((row["class"] == "") == bool(row["error"]) for row in table)
    assert table[3]["error"].startswith("(-1, 5) is outside of the picture, which is 120x90 px")
    assert [row["error"].split(":")[1].strip() for row in table[5:8]] == ["invalid x 'x'", "no x", "no x"]
    assert table[8]["error"] == "line 10 of its list names no path"


def test_boxes_are_given_by_middle_corner_or_both_corners(home: Path, tmp_path: Path) -> None:
    save(tmp_path / "field.png", cell_picture(3, 100, 100))

    def centers(text: str, boxes: str = "center") -> list[Any]:
        (tmp_path / "list.csv").write_text(text)
        return [cell.center or cell.problem for cell in CellInputs([tmp_path / "list.csv"], boxes)]

    sized = "path;x;y;width;height\nfield.png;40,5;50;8;10\nfield.png;40;50;0;10\nfield.png;40;50;;\n"
    assert centers(sized) == [
        (40.5, 50),
        "line 3: the box is 0 px wide and 10 px high: give boxes that are not empty",
        (40, 50),
    ]
    assert centers(sized, "corner")[0] == (44.5, 55)
    assert centers("image,x0,y0,x1,y1\nfield.png,10,20,30,60\n") == [(20, 40)]
    for columns, says in (
        ("path,x", "has no column y"),
        ("path,x,y,width", "has no column height"),
        ("path,width,height", "width and height and no x and y"),
        ("path,x,y,x0,y0,x1,y1", "leave out one of the two"),
        ("file name,pathh", "did you mean 'path'"),
        ("name,x,y", "has no column 'path'"),
        ("path,x,y,heigth,width", "did you mean 'height'"),
    ):
        with pytest.raises(ManifestError, match=says):
            centers(columns + "\n" + ",".join(["1"] * (columns.count(",") + 1)) + "\n")
    with pytest.raises(ManifestError, match="lists no cell"):
        centers("path,x,y\n")


def test_lists_of_pictures_in_every_form(pictures: Path, tmp_path: Path) -> None:
    here = os.path.relpath(pictures, tmp_path)

    def read(name: str, text: str) -> list[tuple[Path, float | None, str]]:
        (tmp_path / name).write_text(text)
        cells = [*CellInputs([tmp_path / name])]
        assert all(cell.center is None for cell in cells)
        return [(cell.path.resolve(), cell.mpp, cell.carried.get("label", "")) for cell in cells]

    first, second = (pictures / "one" / "00.png").resolve(), (pictures / "two" / "01.png").resolve()
    plain = [(first, None, ""), (second, None, "")]
    assert read("a.txt", f"# mine\n{here}/one/00.png\n\n{second}\n") == plain
    assert read("b.txt", f"path\n{here}/one/00.png\n{second}\n") == plain
    assert read("c.csv", f'Image,mpp,label\n"{here}/one/00.png",0.25,LSIL\n{second},,a b\n') == [
        (first, 0.25, "LSIL"),
        (second, None, "a b"),
    ]
    assert read("d.json", json.dumps([{"path": str(first), "label": "NILM"}])) == [(first, None, "NILM")]
    assert read("e.txt", f"{second}\n{second}\n") == [plain[1], plain[1]], "each row is a cell"


def test_what_several_arguments_name_is_there_once(pictures: Path) -> None:
    one = pictures / "one"
    names = [cell.name for cell in CellInputs([one / "02.png", one, pictures, one / "04.png", pictures])]
    assert names[0] == "02.png"
    assert names[1:11] == [f"one/{k:02}.png" for k in range(0, 21, 2) if k != 2]
    assert names[11:] == [f"{pictures.name}/two/{k:02}.png" for k in range(1, 21, 2)]


def test_folders_tell_what_they_hold_instead_of_pictures(tmp_path: Path) -> None:
    for name in ("a.dat", "b.dat", "c"):
        (tmp_path / name).write_text("x")
    (tmp_path / "__MACOSX").mkdir()
    save(tmp_path / "__MACOSX" / "a.png", cell_picture())
    (cell,) = CellInputs([tmp_path])
    assert cell.problem == (
        "the folder holds no picture: its files end in .dat (2), nothing (1): name a folder with pictures of cells"
    )


@pytest.mark.parametrize("aligned", ["cell_cls", "swift_mil"])
def test_words_come_from_the_encoder_that_they_were_trained_on_and_change_no_class(
    tmp_path: Path, pictures: Path, aligned: str
) -> None:
    home = cell_bundles(tmp_path / "bundles", aligned)
    plain = sm.classify(pictures / "one", **options(home))
    told = sm.classify(pictures / "one", out=tmp_path / "out", descriptions=True, **options(home))
    assert [cell.probabilities for cell in told] == [cell.probabilities for cell in plain]
    assert any(cell.descriptions for cell in told)
    assert not any(cell.descriptions for cell in plain)
    facts = json.loads((tmp_path / "out" / "classify.json").read_text())
    assert facts["weights_sha256"].keys() == {"cell_cls", "text_align", aligned}
    assert facts["used"]["descriptions"]["made"] is True
    for row, cell in zip(table_of(tmp_path / "out"), told, strict=True):
        fits = row["description_fits_class"].split("|") if row["descriptions"] else []
        assert fits == ["yes" if text.fits_class else "no" for text in cell.descriptions]
        assert len(row["description_similarity"].split("|")) == max(1, len(cell.descriptions))


def test_words_of_an_encoder_that_nobody_has_are_refused(tmp_path: Path, pictures: Path) -> None:
    home = cell_bundles(tmp_path / "bundles", "")
    with pytest.raises(BundleError, match=r"aligned with the image encoder .* leave out --descriptions"):
        sm.classify(pictures / "one", descriptions=True, **options(home))
    (home / "text_align" / "model.safetensors").unlink()
    with pytest.raises(BundleError, match="cells cannot be described: the bundle text_align has no weights"):
        sm.classify(pictures / "one", descriptions=True, **options(home))


def test_the_network_is_the_one_whose_weights_are_named(home: Path, pictures: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.safetensors"
    save_weights(own, cell_network(9).state_dict(), {}, half=False)
    picture, settings = pictures / "one" / "04.png", options(home)
    (plain,), (other,) = sm.classify(picture, **settings), sm.classify(picture, **settings, weights={"cell_cls": own})
    assert plain.probabilities != other.probabilities
    slides = home / "swift_mil" / "model.safetensors"
    (by_slides,) = sm.classify(picture, out=tmp_path / "out", **settings, weights={"swift_mil": slides})
    (asked,) = sm.classify(picture, **settings, classifier="swift_mil")
    assert by_slides.probabilities == asked.probabilities
    with torch.inference_mode():
        head = make_classifier().encoder.head.weight
    assert head.shape == (5, 64)
    facts = json.loads((tmp_path / "out" / "classify.json").read_text())
    assert facts["used"]["classifier"] == {"name": "swift_mil", "why": "its weights were given"}
    assert facts["weights_sha256"] == {"swift_mil": sha256_of(slides)}
    assert facts["weights_from"]["swift_mil"] == {"from": "given", "files": [str(slides)]}
    assert facts["counts"]["by_mpp"] == [{"cells": 1, "mpp": 0.5, "mpp_source": "given"}]
    with pytest.raises(BundleError, match="say --weights swift_mil="):
        sm.classify(
            picture, **options(None, profile="tiny", weights={"cell_cls": sm.load_bundle("swift_mil").files[0]})
        )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"mpp": -1.0}, "invalid mpp -1"),
        ({"boxes": "centre"}, "unknown meaning of --boxes 'centre': did you mean center"),
        ({"classifier": "swift"}, "unknown cell classifier 'swift': did you mean swift_mil"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"weights": {"text_align": "a.pt"}}, "--weights text_align is not used here: add --descriptions"),
        ({"weights": {"detection": "a.pt"}}, "--weights detection is not used here"),
        ({"weights": {"cell_cls": "a.pt", "coloradv": "b.pt"}}, "--weights names cell_cls and coloradv, one of which"),
        ({"weights": {"cell_cls": "a.pt"}, "classifier": "coloradv"}, "--weights cell_cls is not used here"),
    ],
)
def test_an_invalid_option_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ClassifyConfig(**given)
    assert str(caught.value).startswith(says)


def test_only_what_is_ours_is_replaced(home: Path, pictures: Path, tmp_path: Path) -> None:
    picture, out, settings = pictures / "one" / "00.png", tmp_path / "out", options(home)
    sm.classify(picture, out=out, **settings)
    sm.classify(pictures / "one" / "02.png", out=out, **settings)
    assert [row["path"] for row in table_of(out)] == ["02.png"], "ours is replaced"
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort" / "cells.csv").write_text("mine")
    with pytest.raises(OutputError, match=r"holds cells\.csv, not written by stride-monai"):
        sm.classify(picture, out=tmp_path / "cohort", **settings)
    with pytest.raises(OutputError, match=r"results would be written over .* an input"):
        sm.classify(out / "cells.csv", out=out, **settings)
    listed = json.loads((out / "files.json").read_text())
    (out / "files.json").write_text(json.dumps({**listed, "of": "cohort"}))
    with pytest.raises(OutputError, match="holds other files of stride-monai"):
        sm.classify(picture, out=out, **settings)
    assert (tmp_path / "cohort" / "cells.csv").read_text() == "mine"


def test_a_picture_that_ends_the_process_or_stalls_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded, "_SECONDS", 0.2)
    monkeypatch.setattr(guarded, "_SECONDS_PER_FILE", 0.3)
    names = ["a", "kills", "b", "stalls", "kills", "c"]
    cells = [CellInput(tmp_path / f"{name}.png", name) for name in names]
    cells.insert(1, CellInput(tmp_path, "nothing", problem="it cannot be tried"))
    loads: list[bool] = []
    with GuardedCells(ClassifyConfig(), loads.append, "breaking_cells:breaking") as one:
        found = one(cells)
    assert [cell.cell for cell in found] == cells
    said = {cell.cell.name: cell.error for cell in found}
    assert said["nothing"] == "it cannot be tried"
    assert said["kills"] == (
        "kills.png ended the process that read it (SIGSEGV): the file may be damaged, copy it again from the scanner"
    )
    assert said["stalls"] == "stalls.png was not read after 0.5 s: check the file"
    assert [cell.cell_class for cell in found if not cell.error] == ["NILM"] * 3
    assert loads[:2] == [True, False]
