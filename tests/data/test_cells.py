"""Cell tables: what is read, what is refused and on which line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stride_monai.bethesda import CELL_CLASSES, LABELS
from stride_monai.data import CellRecord, read_cells, write_cells
from stride_monai.errors import ManifestError

_HEADER = "slide_id,cell_id,x0,y0,x1,y1,label,cell_class,descriptions\n"


def _read(folder: Path, text: str) -> list[CellRecord]:
    path = folder / "cells.csv"
    path.write_text(text, encoding="utf-8")
    return read_cells(path)


def test_a_cell_with_everything(tmp_path: Path) -> None:
    (cell,) = _read(tmp_path, _HEADER + "s1,7,10,20.5,30,50,scc,ASC-H/HSIL,high ratio| two words |\n")
    assert cell == CellRecord("s1", "7", 10, 20.5, 30, 50, "SCC", ("high ratio", "two words"))
    assert cell.cell_class == "ASC-H/HSIL"
    assert cell.positive
    assert cell.box.center == (20, 35.25)


def test_cell_class_alone_is_enough_and_ids_default_to_row_numbers_within_the_slide(tmp_path: Path) -> None:
    text = "x0,y0,x1,y1,slide,cell_class\n0,0,1,1,a,NILM\n0,0,1,1,b,ASC-H/HSIL\n0,0,1,1,a,AGC\n"
    cells = _read(tmp_path, text)
    assert [(c.slide_id, c.cell_id, c.label) for c in cells] == [
        ("a", "1", "NILM"),
        ("b", "1", "ASC-H/HSIL"),
        ("a", "2", "AGC"),
    ]
    assert [c.positive for c in cells] == [False, True, True]


def test_every_broken_line_is_named(tmp_path: Path) -> None:
    rows = [
        "s,1,0,0,5,5,LSIL,,",
        ",2,0,0,5,5,LSIL,,",
        "s,3,zero,0,5,5,LSIL,,",
        "s,4,5,0,5,5,LSIL,,",
        "s,5,0,0,5,inf,LSIL,,",
        "s,6,0,0,5,5,CIN3,,",
        "s,7,0,0,5,5,LSIL,AGC,",
        "s,8,0,0,5,5,,,",
        "s,1,0,0,5,5,LSIL,,",
    ]
    with pytest.raises(ManifestError) as caught:
        _read(tmp_path, _HEADER + "\n".join(rows) + "\n")
    message = str(caught.value)
    for part in (
        "line 3: no slide id",
        "line 4: invalid x0 'zero'",
        "line 5: box (5.0, 0.0, 5.0, 5.0) is empty",
        "line 6: invalid y1 'inf'",
        "line 7: 'CIN3' is not a Bethesda label",
        "line 8: label 'LSIL' contradicts cell class 'AGC'",
        "line 9: no label",
        "line 10: cell id '1' of 's' is that of line 2 too",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("slide_id,x0,y0,x1,label", "no column y1"),
        ("slide_id,x0,y0,x1,y1", "no column label"),
        ("slide_id,x0,y0,x1,y1,labell", "did you mean 'label'"),
    ],
)
def test_missing_and_misspelt_columns(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        _read(tmp_path, header + "\n")


def test_a_description_cannot_hold_the_separator() -> None:
    with pytest.raises(ManifestError, match="separates"):
        CellRecord("s", "1", 0, 0, 1, 1, "NILM", ("a|b",))


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="|", exclude_categories=["C", "Z"]), min_size=1)
_CELLS = st.lists(
    st.builds(
        lambda name, x, y, w, h, label, texts: CellRecord(name, "", x, y, x + w, y + h, label, tuple(texts)),
        st.sampled_from(["s1", "s2", 'odd "name", here']),
        st.integers(-10, 99999),
        st.integers(-10, 99999),
        st.integers(1, 500),
        st.integers(1, 500),
        st.sampled_from(sorted({*LABELS, *CELL_CLASSES})),
        st.lists(_TEXT, max_size=3),
    ),
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(cells=_CELLS)
def test_what_is_written_reads_back(tmp_path_factory: pytest.TempPathFactory, cells: list[CellRecord]) -> None:
    import dataclasses

    cells = [dataclasses.replace(cell, cell_id=str(place)) for place, cell in enumerate(cells)]
    path = tmp_path_factory.mktemp("cells") / "cells.csv"
    write_cells(path, cells)
    assert read_cells(path) == cells


def test_an_open_quotation_mark_swallows_no_row(tmp_path: Path) -> None:
    path = tmp_path / "cells.csv"
    path.write_text('slide_id,x0,y0,x1,y1,label,descriptions\na,0,0,1,1,LSIL,"koilocyte\na,2,2,3,3,LSIL,\n')
    with pytest.raises(ManifestError, match=r"cells\.csv line 2: unexpected end of data: .* quotation mark not closed"):
        read_cells(path)
