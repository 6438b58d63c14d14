"""Pages of pictures for the documentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stride_monai.bethesda import CELL_COLORS
from stride_monai.errors import ConfigError
from stride_monai.phantom import gallery
from stride_monai.phantom.gallery import (
    PAGES,
    artefacts_page,
    cells_page,
    centres_page,
    counterfactuals_page,
    fields_page,
    slide_page,
)
from stride_monai.phantom.sheets import Tile, page


def _has(pixels: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((pixels == color).all(axis=2).any())


def test_a_page_holds_every_tile_unchanged_and_one_scale_bar() -> None:
    red, blue = np.full((80, 90, 3), (200, 0, 0), np.uint8), np.full((80, 90, 3), (0, 0, 200), np.uint8)
    sheet = page([("first", [Tile(red, "one"), Tile(blue)]), ("", [Tile(blue)])], mpp=0.5)
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] == 2 * 90 + 3 * 6
    assert (sheet == (0, 0, 200)).all(axis=2).sum() == 2 * 80 * 90
    covered = 80 * 90 - (sheet == (200, 0, 0)).all(axis=2).sum()
    assert 0 < covered < 0.35 * 80 * 90


def test_the_scale_bar_is_as_long_as_it_says() -> None:
    gray = np.full((80, 120, 3), 200, np.uint8)
    sheet = page([("", [Tile(gray)])], mpp=0.5, bar_um=20)
    runs = (sheet == 30).all(axis=2).sum(axis=1)
    assert runs.max() == 20 / 0.5 + 1


@pytest.mark.parametrize("rows", [[], [("empty", [])]])
def test_nothing_to_show_is_an_error(rows: list[tuple[str, list[Tile]]]) -> None:
    with pytest.raises(ConfigError, match="without tiles"):
        page(rows, 0.5)


def test_every_kind_has_its_row_and_the_page_is_reproducible() -> None:
    narrow = [cells_page(["superficial", "LSIL"], width=180, mpp=0.8, seed=4) for _ in range(2)]
    assert np.array_equal(*narrow)
    assert narrow[0].shape[0] > cells_page(["superficial"], width=180, mpp=0.8, seed=4).shape[0]
    assert not np.array_equal(narrow[0], cells_page(["superficial", "LSIL"], width=180, mpp=0.8, seed=5))


def test_every_kind_that_is_drawn_stands_on_a_page() -> None:
    assert {"superficial", "neutrophil"} <= set(PAGES["normal"])
    assert {"reactive", "naked_nucleus"} <= set(PAGES["hard"])
    assert {"ASC-US", "LSIL", "ASC-H", "HSIL", "SCC", "AGC"} <= set(PAGES["lesions"])


def test_an_unknown_cell_or_centre_is_an_error() -> None:
    with pytest.raises(ConfigError, match="unicorn"):
        cells_page(["unicorn"])
    with pytest.raises(ConfigError, match="atlantis"):
        centres_page(["atlantis"])


def test_centres_differ_on_their_page() -> None:
    sheet = centres_page(["north", "coast"], columns=2, field_um=(60, 40), mpp=0.8)
    left, right = np.array_split(sheet[6:50].astype(float), 2, axis=1)
    assert abs(left.mean(axis=(0, 1)) - right.mean(axis=(0, 1))).max() > 2


def test_each_property_has_its_pairs() -> None:
    sheet = counterfactuals_page(["halo", "nucleoli"], centres=["north"], side=60, mpp=0.8)
    assert sheet.shape[1] == 2 * 60 + 3 * 6
    pairs = [sheet[top : top + 60, 6:132] for top in (25, 116)]
    changed = [(pair[:40, :60] != pair[:40, 66:]).any(axis=2).mean() for pair in pairs]
    assert changed[0] > changed[1] > 0


def test_each_label_has_its_field() -> None:
    sheet = fields_page(["NILM", "LSIL", "AGC"], columns=2, field_um=(80, 60), mpp=0.8)
    assert sheet.shape[1] == 2 * 100 + 3 * 6
    assert sheet.shape[0] > 2 * 75


def test_each_artefact_has_its_deposit() -> None:
    sheet = artefacts_page(["pen", "dust"], side=100, diameter_mm=0.2)
    pen, dust = sheet[6:106, 6:106].astype(int), sheet[6:106, 112:212].astype(int)
    assert abs(pen - dust).max() > 40


def test_a_slide_is_shown_with_its_truth() -> None:
    sheet = slide_page("LSIL", diameter_mm=0.4, side=160)
    assert sheet.shape[1] == 4 * 160 + 5 * 6
    tiles = [sheet[6:166, 6 + i * 166 : 166 + i * 166] for i in range(4)]
    assert _has(tiles[3], CELL_COLORS["LSIL"])
    assert not _has(tiles[2], CELL_COLORS["LSIL"])
    same = (tiles[2] == tiles[3]).all(axis=2).mean()
    assert 0.5 < same < 1


def test_the_command_writes_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "PAGES", {"hard": ("reactive",)})
    out = tmp_path / "hard.png"
    gallery.main(["cells", "--which", "hard", "--out", str(out)])
    assert Image.open(out).mode == "RGB"


def test_a_wrong_argument_is_one_line_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "PAGES", {"hard": ("reactive",)})
    for arguments in (
        ["cells", "--which", "hard", "--out", "page.gif"],
        ["slide", "--diameter", "0", "--out", "p.png"],
    ):
        out = tmp_path / arguments[-1]
        with pytest.raises(SystemExit) as stopped:
            gallery.main([*arguments[:-1], str(out)])
        assert "\n" not in str(stopped.value.code)
        assert len(str(stopped.value.code)) > 10
    assert not list(tmp_path.iterdir())
