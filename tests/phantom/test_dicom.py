"""Phantom slides as DICOM: OpenSlide opens the series, finds what was painted and names the planted patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pydicom
import pytest

from stride_monai.errors import ConfigError, MissingExtraError, OutputError
from stride_monai.phantom import render_slide
from stride_monai.phantom.files import dicom_writer
from stride_monai.phantom.files.slide_files import CANARY
from stride_monai.phantom.painting.painter import Scene
from stride_monai.phantom.render import plan_slide
from stride_monai.phantom.scenes.truth import SlideTruth
from stride_monai.slides import open_slide
from stride_monai.units import Box

SMALL = {"diameter_mm": 0.5, "margin_mm": 0.1, "seed": 5, "centre": "lake"}


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SlideTruth]:
    folder = tmp_path_factory.mktemp("dicom") / "case-1"
    return folder, render_slide(folder, "HSIL", file_format="dicom", **SMALL)


def test_openslide_reads_levels_spacing_and_objective(series: tuple[Path, SlideTruth]) -> None:
    folder, truth = series
    assert sorted(file.name for file in folder.iterdir()) == [
        "label.dcm",
        "level-0.dcm",
        "level-1.dcm",
        "overview.dcm",
    ]
    with openslide.OpenSlide(folder / "level-0.dcm") as opened:
        assert opened.properties["openslide.vendor"] == "dicom"
        assert float(opened.properties["openslide.mpp-x"]) == pytest.approx(0.33)
        assert float(opened.properties["openslide.mpp-y"]) == pytest.approx(0.33)
        assert opened.properties["openslide.objective-power"] == "40"
        assert opened.level_dimensions[0] == (truth.width, truth.height)
        assert opened.level_dimensions[1] == (truth.width // 4, truth.height // 4)
        assert set(opened.associated_images) == {"label", "macro"}


def test_the_series_shows_what_was_painted(series: tuple[Path, SlideTruth]) -> None:
    plan, _ = plan_slide("HSIL", **SMALL)
    painted = Scene(plan).paint(700, 800, 640, 560).astype(float)
    for file in ("level-0.dcm", "level-1.dcm"):
        with open_slide(series[0] / file) as slide:
            assert slide.mpp == pytest.approx(0.33)
            assert np.abs(slide.read(Box(700, 800, 1340, 1360)).astype(float) - painted).mean() < 4


def test_the_patient_is_in_the_series_and_stays_there(series: tuple[Path, SlideTruth]) -> None:
    with openslide.OpenSlide(series[0] / "level-0.dcm") as opened:
        assert opened.properties["dicom.PatientComments"] == CANARY
    with open_slide(series[0] / "level-0.dcm") as slide:
        assert not any(word in str(slide.facts) for word in ("CANARY", "JANE", "4711"))


def test_the_same_arguments_give_the_same_series(series: tuple[Path, SlideTruth], tmp_path: Path) -> None:
    folder = tmp_path / "case-1"
    render_slide(folder, "HSIL", file_format="dicom", **SMALL)
    for file in series[0].iterdir():
        assert (folder / file.name).read_bytes() == file.read_bytes()


def test_a_series_without_a_patient_names_none(tmp_path: Path) -> None:
    arguments = {**SMALL, "diameter_mm": 0.2, "centre": "north"}
    render_slide(tmp_path / "x", file_format="dicom", patient_label=False, **arguments)
    files = list((tmp_path / "x").iterdir())
    assert all(file.name.startswith("level-") for file in files)
    assert not any(word in file.read_bytes() for file in files for word in (b"CANARY", b"ID 4711", b"19700101"))


def test_a_series_replaces_only_dicom_files_and_is_complete_or_absent(tmp_path: Path) -> None:
    arguments = {**SMALL, "diameter_mm": 0.2, "file_format": "dicom"}
    folder = tmp_path / "x"
    with pytest.raises(ConfigError, match="unknown slide format 'png'"):
        render_slide(folder, **{**arguments, "file_format": "png"})

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_slide(folder, progress=stop, **arguments)
    assert list(tmp_path.iterdir()) == []
    render_slide(folder, **arguments)
    with pytest.raises(OutputError, match="x exists"):
        render_slide(folder, **arguments)
    render_slide(folder, overwrite=True, **arguments)
    (folder / "notes.txt").write_text("precious")
    with pytest.raises(OutputError, match="more than DICOM files"):
        render_slide(folder, overwrite=True, **arguments)
    assert (folder / "notes.txt").read_text() == "precious"
    (folder / "notes.txt").unlink()
    mine = (folder / "level-0.dcm").read_bytes().replace(b"stride-monai phantom", b"a scanner of others!")
    (folder / "level-0.dcm").write_bytes(mine)
    with pytest.raises(OutputError, match="more than DICOM files"):
        render_slide(folder, overwrite=True, **arguments)
    assert (folder / "level-0.dcm").read_bytes() == mine
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_without_pydicom_the_extra_is_named_before_anything_is_painted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom_writer, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"a slide as DICOM needs pydicom.*stride-monai\[dicom\]"):
        render_slide(tmp_path / "x", file_format="dicom", **SMALL)
    assert not list(tmp_path.iterdir())


def test_pydicom_reads_the_series_as_valid(series: tuple[Path, SlideTruth]) -> None:
    for file in series[0].iterdir():
        read = pydicom.dcmread(file)
        assert read.file_meta.MediaStorageSOPInstanceUID == read.SOPInstanceUID
        assert read.file_meta.FileMetaInformationGroupLength > 0
        assert len(list(pydicom.encaps.generate_frames(read.PixelData, number_of_frames=read.NumberOfFrames))) == (
            -(-read.TotalPixelMatrixColumns // read.Columns) * -(-read.TotalPixelMatrixRows // read.Rows)
        )
