"""The machine-readable files of a slide: the facts, the same bytes twice, complete or absent, no paths."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
import subprocess
import sys
import uuid
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import plug_ins
import pyarrow.parquet as pq
import pytest
from findings_samples import make_findings, make_pictures

from stride_monai.bethesda import CELL_CLASSES, CELL_COLORS
from stride_monai.errors import ConfigError, OutputError
from stride_monai.exporters import cells_parquet, findings_json, geojson, load_writers
from stride_monai.exporters.writers import WRITERS
from stride_monai.files import write_bytes
from stride_monai.findings import Cell, Described, Description, Findings, Screened

NAMES = {
    "findings": "findings.json",
    "cells": "cells.parquet",
    "overlay": "overlay.geojson.gz",
    "report": "report.html",
}


def screened(findings: Findings) -> Screened:
    return Screened(findings, make_pictures(findings))


def collection(folder: Path, findings: Findings) -> dict[str, object]:
    path = geojson.write(screened(findings), folder, {})
    return json.loads(gzip.decompress(path.read_bytes()))  # type: ignore[no-any-return]


def test_every_built_in_writer_makes_its_file_and_the_same_bytes_twice(tmp_path: Path) -> None:
    findings = make_findings(cells=40)
    for name, writer in load_writers().items():
        first, second = (writer(screened(findings), tmp_path / run, {}) for run in ("a", "b"))
        assert first == tmp_path / "a" / NAMES[name]
        assert first.read_bytes() == second.read_bytes()
        # Nothing but the file: no temporary one is left over.
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(NAMES.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_failed_write_leaves_the_earlier_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = make_findings(cells=3)
    writer = load_writers()[name]
    path = writer(screened(findings), tmp_path, {})
    before = path.read_bytes()

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match="No space left"):
        writer(screened(make_findings(cells=5)), tmp_path, {})
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_findings_json_reads_back(tmp_path: Path) -> None:
    findings = make_findings(cells=4)
    path = findings_json.write(screened(findings), tmp_path, {})
    assert Findings.from_json(path.read_text(encoding="utf-8")).to_json() == findings.to_json()


def test_a_value_that_is_no_number_is_refused_and_names_the_slide(tmp_path: Path) -> None:
    findings = make_findings(cells=2)
    broken = dataclasses.replace(findings, cells=(dataclasses.replace(findings.cells[0], score=math.nan),))
    for writer in (findings_json.write, geojson.write):
        with pytest.raises(OutputError, match=r"sample\.svs"):
            writer(screened(broken), tmp_path, {})
    assert not list(tmp_path.iterdir())


def test_parquet_has_one_row_per_cell_and_says_what_made_it(tmp_path: Path) -> None:
    findings = make_findings(cells=7)
    table = pq.read_table(cells_parquet.write(screened(findings), tmp_path, {}))
    assert table.schema.remove_metadata() == cells_parquet.SCHEMA
    assert table.column_names[:7] == ["rank", "score", "x0", "y0", "x1", "y1", "class"]
    assert table.column_names[7:12] == ["p_NILM", "p_ASC-US", "p_LSIL", "p_ASC-H/HSIL", "p_AGC"]
    for row, cell in zip(table.to_pylist(), findings.cells, strict=True):
        assert (row["rank"], row["class"]) == (cell.rank, cell.cell_class)
        columns = ("descriptions", "description_similarity", "description_fits_class")
        words = [Description(*values) for values in zip(*(row[name] for name in columns), strict=True)]
        assert words == [dataclasses.replace(text, similarity=round(text.similarity, 6)) for text in cell.descriptions]
        assert [row[name] for name in ("x0", "y0", "x1", "y1")] == pytest.approx(list(cell.box), abs=1e-6)
        assert [row[f"p_{name}"] for name in CELL_CLASSES] == pytest.approx(list(cell.probabilities), abs=1e-6)
        assert (row["score"], row["attention"]) == pytest.approx((cell.score, cell.attention), abs=1e-6)
        assert row["cam"] == pytest.approx(cell.cam, abs=1e-6)
        assert row["rerank_score"] == (
            None if cell.rerank_score is None else pytest.approx(cell.rerank_score, abs=1e-6)
        )
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert metadata["schema_version"] == findings.schema_version
    assert metadata["package_version"] == findings.provenance.package_version
    assert metadata["slide_id"] == "sample"
    assert metadata["config_hash"] == findings.provenance.config_hash
    assert json.loads(metadata["weights_sha256"]) == dict(findings.provenance.weights)
    assert json.loads(metadata["described"]) == dataclasses.asdict(findings.described)


def test_no_cells_give_empty_tables_of_the_same_shape(tmp_path: Path) -> None:
    findings = make_findings(cells=0)
    table = pq.read_table(cells_parquet.write(screened(findings), tmp_path, {}))
    assert table.num_rows == 0
    assert table.schema.remove_metadata() == cells_parquet.SCHEMA
    assert collection(tmp_path, findings)["features"] == []


def test_geojson_is_what_qupath_reads(tmp_path: Path) -> None:
    findings = make_findings(cells=12)
    content = collection(tmp_path, findings)
    assert content["type"] == "FeatureCollection"
    features = content["features"]
    assert isinstance(features, list)
    for feature, cell in zip(features, findings.cells, strict=True):
        assert feature["type"] == "Feature"
        assert uuid.UUID(feature["id"])
        assert feature["geometry"]["type"] == "Polygon"
        (ring,) = feature["geometry"]["coordinates"]
        assert len(ring) == 5
        assert ring[0] == ring[-1]
        # Positive area by the shoelace formula: the winding of RFC 7946 for an outer ring.
        area = sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise(ring)) / 2
        assert area == pytest.approx(cell.box.area, rel=1e-3)
        xs, ys = zip(*ring, strict=True)
        assert (min(xs), min(ys), max(xs), max(ys)) == pytest.approx(tuple(cell.box), abs=0.01)
        properties = feature["properties"]
        assert properties["objectType"] == "detection"
        assert properties["name"] == f"{cell.rank} {cell.cell_class}"
        assert properties["classification"] == {"name": cell.cell_class, "color": list(CELL_COLORS[cell.cell_class])}
        assert all(isinstance(value, int | float) for value in properties["measurements"].values())
        assert properties["measurements"]["Rank"] == cell.rank
        assert properties["measurements"]["CAM"] == pytest.approx(cell.cam, abs=1e-6)
        assert properties["measurements"].get("Rerank score") == pytest.approx(cell.rerank_score, abs=1e-6)
        assert properties["measurements"]["p AGC"] == pytest.approx(cell.probabilities[4], abs=1e-6)
        assert properties["metadata"] == shown(cell)
    assert len({feature["id"] for feature in features}) == len(features)


def shown(cell: Cell) -> dict[str, str]:
    """What QuPath shows of a cell's words: fitting, contradicting, or that there is none."""
    if not cell.descriptions:
        return {"Descriptions": "none above 0.31"}
    words: dict[str, str] = {}
    for text in cell.descriptions:
        key = "Descriptions" if text.fits_class else "Descriptions against the class"
        words[key] = f"{words[key]}; " if key in words else ""
        words[key] += f"{text.text} ({text.similarity:.2f})"
    return words


def test_cells_that_were_not_described_have_no_words_and_the_file_says_why(tmp_path: Path) -> None:
    findings = make_findings(cells=2)
    cells = tuple(dataclasses.replace(cell, descriptions=()) for cell in findings.cells)
    content = collection(tmp_path, dataclasses.replace(findings, cells=cells, described=Described(False, "no weights")))
    assert content["stride_monai"]["described"] == {"made": False, "why": "no weights", "threshold": None}  # type: ignore[index]
    assert ["metadata" in feature["properties"] for feature in content["features"]] == [False, False]  # type: ignore[attr-defined]


def test_geojson_coordinates_are_those_of_the_content(tmp_path: Path) -> None:
    findings = make_findings(cells=1)
    shifted = dataclasses.replace(findings, slide=dataclasses.replace(findings.slide, bounds_offset=(5000, 7000)))
    assert collection(tmp_path, findings)["features"] == collection(tmp_path, shifted)["features"]


def test_ids_of_objects_follow_the_slide_and_the_weights(tmp_path: Path) -> None:
    findings = make_findings(cells=1)
    provenance = dataclasses.replace(findings.provenance, weights={"detection": "f" * 64})
    other = dataclasses.replace(findings, provenance=provenance)
    ids = [collection(tmp_path, item)["features"][0]["id"] for item in (findings, findings, other)]  # type: ignore[index]
    assert ids[0] == ids[1] != ids[2]


def test_gzip_holds_no_time_and_no_name(tmp_path: Path) -> None:
    findings = make_findings(cells=1)
    content = geojson.write(screened(findings), tmp_path, {}).read_bytes()
    assert content[4:8] == b"\0\0\0\0"
    assert content[3] == 0  # no flags, so no file name


def write_line(screened: Screened, folder: Path, settings: Mapping[str, Any]) -> Path:
    """A writer as another package has it."""
    path = folder / "line.txt"
    write_bytes(path, f"{screened.findings.slide.slide_id} {settings.get('end', '.')}".encode())
    return path


def test_another_package_adds_a_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_ins.add(monkeypatch, WRITERS, line=write_line)
    assert list(load_writers()) == [*NAMES, "line"]
    writer = load_writers(["line"])["line"]
    assert writer(screened(make_findings()), tmp_path, {}).read_text() == "sample ."
    assert writer(screened(make_findings()), tmp_path, {"end": "!"}).read_text() == "sample !"


def test_writers_are_chosen_by_name_and_findings_are_always_written() -> None:
    assert list(load_writers(["report", "cells"])) == ["findings", "cells", "report"]
    assert list(load_writers([])) == ["findings"]
    with pytest.raises(ConfigError, match="unknown writer 'reports': did you mean report"):
        load_writers(["findings", "reports"])


def test_the_room_loads_neither_torch_nor_monai_nor_screening() -> None:
    code = (
        "import sys; from stride_monai.exporters import load_writers; load_writers(); "
        "print([m for m in ('torch', 'monai', 'stride_monai.screening') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
