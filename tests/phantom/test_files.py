"""Phantom slide files: what other readers find in them, the planted patient, full disks, z-stacks."""

from __future__ import annotations

import shutil
from collections import namedtuple
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import openslide
import processes
import pytest
import tifffile

from stride_monai.errors import ConfigError, OutputError, SlideError
from stride_monai.phantom import render_slide, write_truth_geojson
from stride_monai.phantom.centres import CENTRES
from stride_monai.phantom.files.slide_files import CANARY
from stride_monai.phantom.files.slide_writer import estimated_bytes
from stride_monai.phantom.painting.painter import Scene
from stride_monai.phantom.render import plan_slide
from stride_monai.phantom.scenes.truth import SlideTruth
from stride_monai.slides import open_slide

SMALL = {"diameter_mm": 0.5, "margin_mm": 0.1, "seed": 5}
NORTH = CENTRES["north"]


@pytest.fixture(scope="module")
def aperio(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SlideTruth]:
    path = tmp_path_factory.mktemp("files") / "aperio.tiff"
    return path, render_slide(path, "HSIL", centre=replace(NORTH, mpp=0.3, offset_mm=(2.0, -1.0)), **SMALL)


@pytest.fixture(scope="module")
def leica(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SlideTruth]:
    path = tmp_path_factory.mktemp("files") / "leica.tiff"
    return path, render_slide(path, "HSIL", centre="harbour", **SMALL)


def test_every_reader_finds_the_centres_own_spacing(
    aperio: tuple[Path, SlideTruth], leica: tuple[Path, SlideTruth]
) -> None:
    for (path, truth), mpp, is_svs in ((aperio, 0.3, True), (leica, 0.23, False)):
        assert truth.mpp == mpp
        with openslide.OpenSlide(path) as opened:
            assert float(opened.properties["openslide.mpp-x"]) == pytest.approx(mpp)
            assert float(opened.properties["openslide.mpp-y"]) == pytest.approx(mpp)
            assert opened.properties["openslide.objective-power"] == "40"
        with tifffile.TiffFile(path) as tiff:
            assert (tiff.is_svs, tiff.is_scn, tiff.is_bigtiff) == (is_svs, not is_svs, True)
        for reader in ("openslide", "tiff") if is_svs else ("openslide",):
            with open_slide(path, reader=reader) as slide:
                assert slide.mpp == pytest.approx(mpp)
                assert (slide.width, slide.height) == (truth.width, truth.height)


def test_a_leica_region_lies_off_the_canvas_origin_and_in_register(leica: tuple[Path, SlideTruth]) -> None:
    path, truth = leica
    plan, _ = plan_slide("HSIL", centre="harbour", **SMALL)
    with openslide.OpenSlide(path) as opened:
        x, y = (int(opened.properties[f"openslide.bounds-{axis}"]) for axis in "xy")
        assert x * 0.23e-3 == pytest.approx(6.0, abs=0.01)
        assert y * 0.23e-3 == pytest.approx(21.0, abs=0.01)
        assert int(opened.properties["openslide.bounds-width"]) == truth.width
        assert int(opened.properties["openslide.bounds-height"]) == truth.height
        assert opened.dimensions[0] > 5 * truth.width
        assert opened.level_downsamples == pytest.approx([4**i for i in range(opened.level_count)], rel=1e-4)
    painted = Scene(plan).paint(900, 1000, 400, 320).astype(float)
    with open_slide(path) as slide:
        assert slide.facts.reader == "openslide"
        box = slide.box.__class__(900, 1000, 1300, 1320)
        assert np.abs(slide.read(box).astype(float) - painted).mean() < 5
        reduced = painted.reshape(80, 4, 100, 4, 3).mean(axis=(1, 3))
        assert np.abs(slide.read(box, mpp=0.92).astype(float) - reduced).mean() < 5
    with pytest.raises(SlideError, match=r"leica\.tiff: the format leica is read by OpenSlide only"):
        open_slide(path, reader="tiff")  # its collection has places of its own, which OpenSlide knows


def test_an_aperio_deposit_may_lie_off_the_middle() -> None:
    plan, _ = plan_slide("NILM", seed=1, diameter_mm=5.0, centre=replace(NORTH, mpp=1.0, offset_mm=(2.0, -1.0)))
    points = np.stack([plan.common.x, plan.common.y], axis=1).astype(float)
    # On a deposit under 10 mm the offset shrinks with it.
    expected = np.array([plan.region.width / 2 + 1000, plan.region.height / 2 - 500])
    assert points.mean(axis=0) == pytest.approx(expected, abs=150)
    assert np.hypot(*(points - expected).T).max() <= 2501
    assert plan.region.width == plan.region.height + 1000 == 5000 + 800 + 2000
    scene = Scene(plan)
    assert scene.is_glass(0, plan.region.height - 600, 512, 512)
    assert not scene.is_glass(int(expected[0]), int(expected[1]), 512, 512)


def test_label_and_macro_pictures_show_the_patient(
    aperio: tuple[Path, SlideTruth], leica: tuple[Path, SlideTruth]
) -> None:
    with openslide.OpenSlide(aperio[0]) as opened:
        assert set(opened.associated_images) == {"label", "macro", "thumbnail"}
        assert opened.properties["aperio.Patient"] == CANARY
        label = np.asarray(opened.associated_images["label"].convert("L"))
        assert opened.associated_images["macro"].size == (1280, 427)
        assert (label[:250] < 90).sum() > 500
    with openslide.OpenSlide(leica[0]) as opened:
        assert set(opened.associated_images) == {"macro"}
        assert opened.properties["leica.barcode"] == CANARY


def test_the_patient_is_never_passed_on(
    aperio: tuple[Path, SlideTruth], leica: tuple[Path, SlideTruth], tmp_path: Path
) -> None:
    for path, truth in (aperio, leica):
        assert CANARY.encode() in path.read_bytes() or path is leica[0]
        for reader in ("openslide", "tiff") if path is aperio[0] else ("openslide",):
            with open_slide(path, reader=reader) as slide:
                said = str(asdict(slide.facts)) + str(vars(slide))
                assert not any(word in said for word in ("CANARY", "JANE", "ID 4711", "19700101"))
        write_truth_geojson(tmp_path / "truth.geojson", truth)
        assert "CANARY" not in (tmp_path / "truth.geojson").read_text()


@pytest.mark.slow
def test_screening_leaves_no_trace_of_the_patient(leica: tuple[Path, SlideTruth], tmp_path: Path) -> None:
    done = processes.run("stride_monai", ["screen", leica[0], "--out", tmp_path / "out"])
    assert done.returncode == 0, done.stderr
    written = [file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert len(written) >= 3
    for content in (*written, done.stdout.encode(), done.stderr.encode()):
        assert not any(word in content for word in (b"CANARY", b"ID 4711", b"19700101"))


def test_a_slide_without_a_patient_names_none(tmp_path: Path) -> None:
    for centre in ("north", "harbour"):
        path = tmp_path / f"{centre}.tiff"
        render_slide(path, centre=centre, patient_label=False, **{**SMALL, "diameter_mm": 0.2})
        with openslide.OpenSlide(path) as opened:
            assert not {"label", "macro"} & set(opened.associated_images)
            assert "CANARY" not in str(dict(opened.properties))
        assert b"CANARY" not in path.read_bytes()


def test_a_z_stack_is_one_file_per_plane(tmp_path: Path) -> None:
    path = tmp_path / "stack.ome.tiff"
    centre = replace(NORTH, focus_um=0.0, depth_um=0.0, noise=0.0, sharpen=(0.0, 0.0, 0.0))
    truth = render_slide(path, centre=centre, z_planes=(-4, 0, 4), **{**SMALL, "diameter_mm": 0.3})
    names = ["stack.ome.tiff", "stack_z+4.0.ome.tiff", "stack_z-4.0.ome.tiff"]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(names)
    detail = {}
    for name in names:
        with open_slide(tmp_path / name) as slide:
            assert (slide.width, slide.height) == (truth.width, truth.height)
            pixels = slide.read(slide.box).astype(float)[..., 1]
        detail[name] = np.abs(np.diff(pixels, axis=1)).mean()
    assert detail[names[0]] > 1.15 * detail[names[1]]
    assert detail[names[1]] == pytest.approx(detail[names[2]], rel=0.01)
    path.unlink()
    with pytest.raises(OutputError, match=r"stack_z-4\.0\.ome\.tiff exists"):
        render_slide(path, centre=centre, z_planes=(-4, 0), **SMALL)


@pytest.mark.parametrize("planes", [(), (1.0,), (0, 0), (0, 90), (0, float("nan")), (0, 0.01, -0.01)])
def test_impossible_planes_are_refused(tmp_path: Path, planes: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        render_slide(tmp_path / "x.tiff", z_planes=planes, **SMALL)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_found_out_before_rendering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**9, 10**9 - 10**6, 10**6))
    with pytest.raises(OutputError, match=r"x\.tiff needs about .* GB and the disk has 0\.00 GB free") as caught:
        render_slide(tmp_path / "new" / "x.tiff", **SMALL)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_estimate_of_the_size_is_an_upper_one(
    aperio: tuple[Path, SlideTruth], leica: tuple[Path, SlideTruth]
) -> None:
    for (path, _), centre in ((aperio, replace(NORTH, mpp=0.3, offset_mm=(2.0, -1.0))), (leica, "harbour")):
        plan, _ = plan_slide("HSIL", centre=centre, **SMALL)
        assert path.stat().st_size < estimated_bytes(Scene(plan)) < 20 * path.stat().st_size


def test_the_centres_own_deposit_is_the_default() -> None:
    for name, diameter, density in (("north_13mm", 13.0, 603.0), ("harbour", 13.0, 603.0), ("desert", 20.0, 255.0)):
        centre = replace(CENTRES[name], mpp=1.1)
        plan, parameters = plan_slide("NILM", seed=1, centre=centre, density_per_mm2=None)
        assert parameters["diameter_mm"] == diameter
        assert parameters["density_per_mm2"] == density
        assert plan.cells_drawn == pytest.approx(density * np.pi * diameter**2 / 4, rel=0.01)
