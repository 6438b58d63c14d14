"""Labels, um/px, patients and options: what is mapped, what is asked for, and never a guess."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import dataset_samples as samples
import plug_ins
import pytest
from imports import one_field, run_import

from stride_monai.data import read_cells, read_manifest
from stride_monai.data.importers import IMPORTERS, ImportOptions, MappedLabel, import_dataset, load_format
from stride_monai.data.importers.labels import BETHESDA, LabelMap, read_map
from stride_monai.errors import ConfigError, ManifestError


def test_labels_that_differ_in_a_sign_only_keep_their_targets(tmp_path: Path) -> None:
    rows = "aa.png,1,p16+,50,60\naa.png,2,p16-,60,60\naa.png,3,lsil,70,60\n"
    own = {"p16+": MappedLabel("HSIL"), "p16-": MappedLabel("NILM"), "LSIL ": MappedLabel("ASC-US")}
    run_import("cric", one_field(tmp_path / "in", rows), tmp_path / "out", own_map=own)
    assert [cell.label for cell in read_cells(tmp_path / "out" / "cells.csv")] == ["HSIL", "NILM", "ASC-US"]
    labels = LabelMap({}, own)
    assert labels.get("P16") is None  # which of the two, nobody says
    assert labels.get("?") is None
    assert labels.unused(["p16-", "p16+"]) == ["LSIL "]


def test_labels_without_a_target_are_all_listed(tmp_path: Path) -> None:
    rows = "aa.png,1,CIN2,50,60\naa.png,2,CIN2,80,80\naa.png,3,blob,90,90\naa.png,4,LSIL,99,99\n"
    with pytest.raises(ManifestError) as caught:
        run_import("cric", one_field(tmp_path / "in", rows), tmp_path / "out")
    assert "2 labels that no map knows: 'CIN2' (2), 'blob' (1)" in str(caught.value)
    assert '{"CIN2": "?", "blob": "?"}' in str(caught.value)


def test_the_own_map_wins_label_by_label_and_is_saved(tmp_path: Path) -> None:
    rows = "aa.png,1,CIN2,50,60\naa.png,2,asc_us,80,80\naa.png,3,blob,90,90\naa.png,4,Blob,99,99\naa.png,5,LSIL,9,9\n"
    path = samples.as_json(
        tmp_path / "map.json",
        {
            "cin2": {"label": "HSIL", "lossy": True, "subtype": "CIN 2"},
            "BLOB": "exclude",
            "LSIL": "ascus",
            "nix": "NILM",
        },
    )
    report = run_import("cric", one_field(tmp_path / "in", rows), tmp_path / "out", own_map=read_map(path))
    cells = read_cells(tmp_path / "out" / "cells.csv")
    assert [(c.label, c.raw_label, c.subtype, c.lossy) for c in cells] == [
        ("HSIL", "CIN2", "CIN 2", True),
        ("ASC-US", "asc_us", "", False),
        ("ASC-US", "LSIL", "", False),
    ]
    assert report.counts["cells_excluded"] == {"blob": 1, "Blob": 1}
    assert any("labels of --map that the data set does not have: nix" in warning for warning in report.warnings)
    saved = json.loads((tmp_path / "out" / "labels.json").read_text())["labels"]
    assert saved["CIN2"] == {"label": "HSIL", "lossy": True, "subtype": "CIN 2", "count": 1}
    assert read_map(tmp_path / "out" / "labels.json")["CIN2"] == MappedLabel("HSIL", True, "CIN 2")


def test_a_map_to_no_target_is_refused(tmp_path: Path) -> None:
    path = samples.as_json(tmp_path / "map.json", {"a": "CIN1", "b": 3, "c": "LSIL"})
    with pytest.raises(ManifestError, match=r"'a': 'CIN1', 'b': 3"):
        read_map(path)
    with pytest.raises(ManifestError, match="line 1 is not JSON"):
        read_map(samples.text(tmp_path / "bad.json", "{"))
    with pytest.raises(ManifestError, match="holds no map"):
        read_map(samples.as_json(tmp_path / "list.json", ["LSIL"]))


def test_formats_whose_labels_are_not_bethesda_guess_nothing() -> None:
    assert LabelMap(BETHESDA).get("ascus") == MappedLabel("ASC-US")
    assert LabelMap({}, bethesda=False).get("LSIL") is None
    assert LabelMap({}).get("ASC-H/HSIL") == MappedLabel("ASC-H/HSIL")


@pytest.mark.parametrize("name", IMPORTERS.built_in)
def test_every_default_map_leads_to_targets(name: str, tmp_path: Path) -> None:
    form = load_format(name)
    assert form.name == name
    path = samples.as_json(tmp_path / "map.json", {label: target._asdict() for label, target in form.labels.items()})
    assert read_map(path) == dict(form.labels)


def test_um_per_px_is_never_guessed(tmp_path: Path) -> None:
    source = samples.folder_per_class(tmp_path / "f")
    with pytest.raises(ConfigError, match=r"um/px of 6 images is not known, e\.g\. of 1\.png: state it with --mpp"):
        run_import("folder", source, tmp_path / "out", mpp=None)
    with pytest.raises(ConfigError, match="--mpp is -1"):
        run_import("folder", source, tmp_path / "out", mpp=-1.0)


def test_a_slide_may_state_its_own_um_per_px(tmp_path: Path) -> None:
    from slide_files import textured, write_pyramid

    samples.geojson(tmp_path / "in")
    (tmp_path / "in" / "slide 1.png").unlink()
    write_pyramid(tmp_path / "in" / "slide 1.tiff", textured(300, 300), mpp=0.5)
    (tmp_path / "in" / "slide 1.png.geojson").rename(tmp_path / "in" / "slide 1.geojson")
    run_import("geojson", tmp_path / "in", tmp_path / "out", mpp=None)
    assert read_manifest(tmp_path / "out" / "manifest.csv")[0].mpp is None
    assert read_cells(tmp_path / "out" / "cells.csv")[1].box.width == pytest.approx(22.8 / 0.5)


def test_a_negative_image_with_a_lesion_is_a_contradiction(tmp_path: Path) -> None:
    source = samples.cervix93(tmp_path / "in")
    with pytest.raises(
        ManifestError, match="a cell of label 'nucleus in N' on image 'frame002', which is NILM as a whole"
    ):
        run_import("cervix93", source, tmp_path / "out", own_map={"nucleus in N": MappedLabel("LSIL")})


def test_patients_and_slides_from_file_names(tmp_path: Path) -> None:
    source = samples.riva(tmp_path / "riva")
    rules = {"slide_from": r"([A-Z]+_\d+)_\d+\.png$", "patient_from": r"images/(\w+)/", "centre": "BA"}
    report = run_import("riva", source, tmp_path / "out", **rules)
    records = {record.slide_id: record for record in read_manifest(tmp_path / "out" / "manifest.csv")}
    assert (records["LSIL_45_3"].specimen, records["LSIL_45_3"].patient) == ("LSIL_45", "train")
    assert {record.centre for record in records.values()} == {"BA"}
    assert report.counts["specimens"] == 3
    assert not any("is not known" in warning for warning in report.warnings)
    with pytest.raises(ManifestError, match=r"--slide-from '\(x\)' finds nothing in images/train/LSIL_45_3\.png"):
        run_import("riva", source, tmp_path / "b", slide_from="(x)")
    with pytest.raises(ManifestError, match="finds nothing in images"):
        run_import("riva", source, tmp_path / "b", slide_from=r"(\d{9})?_")
    with pytest.raises(ConfigError, match="has no group"):
        run_import("riva", source, tmp_path / "b", slide_from="x")
    with pytest.raises(ConfigError, match="is an invalid regular expression"):
        run_import("riva", source, tmp_path / "b", patient_from="(")


def test_options_that_a_format_does_not_know_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'sipakmed' has no option 'parts': its options are: part \(fields"):
        run_import("sipakmed", samples.sipakmed(tmp_path / "in"), tmp_path / "out", values={"parts": "cropped"})
    with pytest.raises(ConfigError, match="part is 'cells'"):
        run_import("sipakmed", tmp_path / "in", tmp_path / "out", values={"part": "cells"})


FORMAT = replace(load_format("folder"), name="mine")


def test_another_package_adds_a_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_ins.add(monkeypatch, IMPORTERS, mine=FORMAT)
    source = samples.folder_per_class(tmp_path / "f")
    report = import_dataset(source, tmp_path / "out", load_format("mine"), ImportOptions(mpp=0.5))
    assert report.counts["cells"] == 6
