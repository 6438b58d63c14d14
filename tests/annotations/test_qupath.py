"""To QuPath and back: what was not touched changes nothing, what was changed becomes the reader's actions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from annotation_samples import label, reviewed
from hypothesis import given, settings
from hypothesis import strategies as st

from stride_monai.annotations import AnnotationError, AnnotationStore, Kind, corrections, geojson_text
from stride_monai.errors import ManifestError
from stride_monai.geojson import features_of_bytes

SLIDE = "切片 1"


def exported(store: AnnotationStore) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(geojson_text(store.state(SLIDE)))
    return content


def give(store: AnnotationStore, content: object, who: str = "cy", **options: bool) -> dict[str, int]:
    features = features_of_bytes(json.dumps(content).encode(), "f.geojson")
    made = corrections(store.state(SLIDE), features, who, "f.geojson", **options)
    store.append_all(made.actions)
    return {name: count for name, count in made.counts.items() if count}


def of_cell(content: dict[str, Any], cell_id: str) -> dict[str, Any]:
    (found,) = (one for one in content["features"] if one["properties"].get("metadata", {}).get("Cell") == cell_id)
    return found  # type: ignore[no-any-return]


def move(feature: dict[str, Any], by: float) -> None:
    (ring,) = feature["geometry"]["coordinates"]
    feature["geometry"]["coordinates"] = [[[x + by, y] for x, y in ring]]


def test_a_file_that_nobody_changed_changes_nothing(tmp_path: Path) -> None:
    store, _, _ = reviewed(tmp_path)
    before = len(store.actions())
    assert give(store, exported(store)) == {"unchanged": 7}  # six cells, a region
    assert len(store.actions()) == before


def test_corrections_are_the_readers_and_the_same_file_again_changes_nothing(tmp_path: Path) -> None:
    store, _, ids = reviewed(tmp_path)
    content = exported(store)
    of_cell(content, ids[4])["properties"]["classification"] = {"name": "LSIL"}
    of_cell(content, ids[0])["properties"]["classification"] = {"name": "Not a lesion"}
    move(of_cell(content, ids[1]), 3.0)
    content["features"].append(
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[[10, 200], [50, 200], [50, 240], [10, 240], [10, 200]]]},
            "properties": {"classification": {"name": "ascus"}},
        }
    )
    content["features"] = [one for one in content["features"] if one is not of_cell(content, ids[3])]
    given = {"labels": 3, "moved": 1, "added": 1, "missing": 1, "unchanged": 3}
    assert give(store, content) == given
    state = store.state(SLIDE)
    assert state.cells[ids[4]].reads["cy"].label == "LSIL"
    assert state.cells[ids[0]].reads["cy"].label == "not_a_lesion"
    assert state.cells[ids[0]].reads["ana"].label == "HSIL"  # others' reads stay
    assert "cy" not in state.cells[ids[2]].reads
    assert state.cells[ids[1]].box is not None
    assert state.cells[ids[1]].box.x0 == 93.0
    (added,) = (cell for cell in state.present if cell.added_by == "cy")
    assert added.label == "ASC-US"
    before = len(store.actions())
    give(store, content)
    assert len(store.actions()) == before


def test_a_reader_who_looked_at_all_confirms_and_deletes(tmp_path: Path) -> None:
    store, _, ids = reviewed(tmp_path)
    content = exported(store)
    content["features"] = [one for one in content["features"] if one is not of_cell(content, ids[3])]
    shown = of_cell(content, ids[4])["properties"]["classification"]["name"]
    give(store, content, confirm=True, missing_is_no_lesion=True)
    state = store.state(SLIDE)
    assert state.cells[ids[4]].reads["cy"].label == shown
    assert state.cells[ids[3]].reads["cy"].label == "not_a_lesion"
    assert "cy" not in state.cells[ids[2]].reads  # readers differ there, and no class was shown


def test_what_stands_by_arbitration_is_not_taken_for_the_readers_own_word(tmp_path: Path) -> None:
    store, _, ids = reviewed(tmp_path)
    label(store, "bo", SLIDE, ids[1], "LSIL")  # ana: not a lesion
    content = exported(store)
    give(store, content, who="ana")
    assert store.state(SLIDE).cells[ids[1]].reads["ana"].label == "not_a_lesion"


def test_objects_that_lost_their_metadata_are_known_by_id_or_place(tmp_path: Path) -> None:
    store, _, ids = reviewed(tmp_path)
    content = exported(store)
    for feature in content["features"]:
        feature["properties"].pop("metadata", None)
    content["features"][0].pop("id")
    before = len(store.actions())
    assert give(store, content) == {"unchanged": 7}
    assert len(store.actions()) == before
    assert ids[0] in store.state(SLIDE).cells


@pytest.mark.parametrize(
    ("geometry", "name", "what"),
    [
        ({"type": "Point", "coordinates": [1, 2]}, "LSIL", "without extent"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 0]]]}, "Tumor", "Bethesda"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 0]]]}, "Region*", "rectangle"),
    ],
)
def test_what_cannot_be_taken_is_said_and_nothing_is_kept(
    tmp_path: Path, geometry: dict[str, Any], name: str, what: str
) -> None:
    store, _, _ = reviewed(tmp_path)
    content = exported(store)
    content["features"].append(
        {"type": "Feature", "geometry": geometry, "properties": {"classification": {"name": name}}}
    )
    before = len(store.actions())
    with pytest.raises(ManifestError, match=what):
        give(store, content)
    assert len(store.actions()) == before


def test_a_name_that_cannot_sign_is_refused_though_nothing_was_changed(tmp_path: Path) -> None:
    store, _, _ = reviewed(tmp_path)
    with pytest.raises(AnnotationError, match="no name of a reader"):
        give(store, exported(store), who="a\nb")


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_change_of_classes_comes_back(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    store, _, ids = reviewed(tmp_path_factory.mktemp("s"))
    content = exported(store)
    names = ["NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "AGC", "SCC", "ASC-H/HSIL", "not_a_lesion", "cannot_tell"]
    chosen = {cell_id: data.draw(st.sampled_from(names)) for cell_id in ids}
    shown = {cell_id: of_cell(content, cell_id)["properties"].get("classification", {}).get("name") for cell_id in ids}
    for cell_id, name in chosen.items():
        of_cell(content, cell_id)["properties"]["classification"] = {"name": name}
    give(store, content)
    reads = {cell_id: store.state(SLIDE).cells[cell_id].reads.get("cy") for cell_id in ids}
    assert {cell_id: read.label for cell_id, read in reads.items() if read} == {
        cell_id: name for cell_id, name in chosen.items() if name != shown[cell_id]
    }
    assert all(action.kind == Kind.LABEL for action in store.actions() if action.who == "cy")
