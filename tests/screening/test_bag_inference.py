"""Bag files in the place of slides: the same findings through the same writers, and one rule that decides."""

from __future__ import annotations

import csv
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from toy_bundles import CROP_PX, TEXTS, K, findings_in, infer, inference_home, make_aligner, make_classifier, toy_bundle

from stride_monai.data.bags.bag import BagCell, BagFile, BagHeader, encode_crop, write_bag
from stride_monai.errors import BundleError, SlideError
from stride_monai.files import sha256_of
from stride_monai.findings import Findings, OperatingPoint, SlideStatus
from stride_monai.inferers.bag_files import make_bag
from stride_monai.inferers.judge import decide
from stride_monai.screening.bundle_inference import ScreeningInferer
from stride_monai.screening.config import ScreeningConfig
from stride_monai.screening.inputs import SlideInput
from stride_monai.screening.screener import Screener
from stride_monai.units import Box

FILES = {"files.json", "findings.json", "cells.parquet", "overlay.geojson.gz", "report.html"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Toy bundles with words for the cells."""
    folder = inference_home(tmp_path_factory.mktemp("home"))
    toy_bundle(folder / "text_align", TEXTS, make_aligner(make_classifier().encoder, threshold=-1.0))
    return folder


def screener(home: Path, weights: Path, on_bags: bool, **options: Any) -> Screener:
    config = ScreeningConfig(mpp=0.5, device="cpu", profile="paper", bundles=home, **options)
    numbers = {"top_k": K, "crop_px": CROP_PX, "crop_mpp": 0.5}
    return ScreeningInferer(make_classifier(), weights, numbers, home, config).screener(on_bags)


# The same cells through both paths.


@pytest.mark.parametrize(
    ("reranked", "force", "unsatisfactory", "threshold"),
    list(itertools.product((False, True), (False, True), (False, True), (0.0, 1.0))),
)
def test_a_slide_and_its_bag_are_decided_alike(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reranked: bool,
    force: bool,
    unsatisfactory: bool,
    threshold: float,
) -> None:
    def lossless(crop: NDArray[np.uint8]) -> bytes:  # so that the networks see the very same pixels
        return bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(crop), lossless=True))

    monkeypatch.setattr("stride_monai.inferers.bag_files.encode_crop", lossless)
    if unsatisfactory:  # a slide has a floor of cells, a field has none
        monkeypatch.setattr("stride_monai.inferers.adequacy._FIELD_READER", "none")
    detector = sha256_of(home / "detection" / "model.safetensors")
    network = make_classifier()
    network.set_operating_point(threshold, detector=detector)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    on_slides = screener(home, tmp_path / "model.pt", on_bags=False, rerank=reranked, force=force)
    slide = on_slides.screen(SlideInput(home / "slides" / "one.png", "one")).findings
    path = tmp_path / "one.bag.arrow"
    assert on_slides.finder is not None
    make_bag(path, home / "slides" / "one.png", on_slides.finder, "one", 0.5, detector_sha256=detector)
    bag = screener(home, tmp_path / "model.pt", on_bags=True, force=force).screen(SlideInput(path, "one")).findings

    assert replace(bag, slide=slide.slide, provenance=slide.provenance) == slide
    assert (bag.slide.slide_id, bag.slide.mpp, bag.slide.fingerprint) == ("one", 0.5, slide.slide.fingerprint)
    assert bag.slide.mpp_source == "bag"
    assert bag.slide.file_name is bag.slide.width is bag.slide.reader is bag.slide.bounds_offset is None
    assert "bag file" in bag.slide.reason
    assert slide.slide.reason == ""
    assert bag.provenance.weights == slide.provenance.weights
    assert on_slides.screen(SlideInput(path, "one")).findings.provenance.weights == bag.provenance.weights
    if reranked:  # the note of the classifier that re-ranked is not in the bag
        assert ("forced" in bag.provenance.weights_note) == force
    for name in ("rerank", "candidates", "top_k", "bag_size", "activation", "force", "crop_px"):
        assert bag.provenance.used[name] == slide.provenance.used[name], name
    assert Findings.from_json(bag.to_json()).to_json() == bag.to_json()

    lacking = unsatisfactory and slide.call != "positive"  # abnormal cells make a slide satisfactory
    assert (slide.status, bool(slide.reason)) == (
        (SlideStatus.UNSATISFACTORY, True) if lacking else (SlideStatus.OK, False)
    )
    assert ("abnormal cells make it so" in " ".join(slide.quality.notes)) == (unsatisfactory and not lacking)
    assert slide.operating_point.holds == (force or not reranked)
    assert ("forced" in slide.operating_point.source) == (force and reranked)
    called = "positive" if threshold == 0 else None if unsatisfactory else "negative"
    assert slide.call == (called if slide.operating_point.holds else None)
    assert slide.score is not None
    assert slide.cells[0].descriptions


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), -float("inf")])
def test_no_call_without_a_finite_threshold(threshold: float) -> None:
    point = OperatingPoint(threshold, 4, "nowhere")
    assert not point.applies
    assert point.call(0.7) is point.call(float("inf")) is None
    assert OperatingPoint(0.5, 4, "a test").call(float("nan")) is None


def test_a_bag_of_another_detector_is_scored_but_not_called(home: Path, tmp_path: Path) -> None:
    torch.save(make_classifier("cd" * 32).state_dict(), tmp_path / "other.pt")
    path = bag(tmp_path, "r", 5, detector_sha256="ab" * 32)
    found = screener(home, tmp_path / "other.pt", on_bags=True).screen(SlideInput(path, "r")).findings
    assert found.score is not None
    assert found.call is None
    assert not found.operating_point.holds
    assert "does not hold for those of the detector (abababababab): no call is made" in found.provenance.weights_note
    forced = screener(home, tmp_path / "other.pt", on_bags=True, force=True).screen(SlideInput(path, "r")).findings
    assert forced.call in {"positive", "negative"}
    assert "forced on cells that were chosen in another way" in forced.operating_point.source
    unknown = bag(tmp_path, "u", 5)
    found = screener(home, tmp_path / "other.pt", on_bags=True).screen(SlideInput(unknown, "u")).findings
    assert found.call in {"positive", "negative"}
    assert "It is not known which detector chose the cells" in found.provenance.weights_note


# Through inference.json.


def bag(folder: Path, slide_id: str, count: int, top_k: int = 16, **header: Any) -> Path:
    rng = np.random.default_rng(count)
    path = folder / f"{slide_id}.bag.arrow"
    folder.mkdir(exist_ok=True)
    crops = rng.integers(0, 255, (count, CROP_PX, CROP_PX, 3), dtype=np.uint8)
    again = 0.5 if "reranker_sha256" in header else None
    cells = [
        BagCell(1 - k / 20, Box(k, k, k + 9, k + 9), encode_crop(crop), rerank_score=again)
        for k, crop in enumerate(crops)
    ]
    write_bag(path, BagHeader(slide_id, 0.25, 0.5, CROP_PX, top_k, **header), cells)
    return path


def test_bag_files_are_written_as_slides_are(home: Path, tmp_path: Path) -> None:
    bag(tmp_path / "bags", "few", 2)
    bag(tmp_path / "bags", "many", 9)
    bag(tmp_path / "bags", "again", 5, reranker_sha256="ab" * 32, candidates=64)
    infer(home, tmp_path / "bags", tmp_path / "out")
    found = {name: findings_in(tmp_path / "out", name) for name in ("few", "many", "again")}
    assert [len(found[name].cells) for name in ("few", "many", "again")] == [2, 9, 5]
    network = make_classifier()
    for name, findings in found.items():
        file = BagFile(tmp_path / "bags" / f"{name}.bag.arrow")
        crops = torch.from_numpy(file.images(range(len(file)))).permute(0, 3, 1, 2)
        with torch.no_grad():
            expected = decide(network.encoder.encode(crops), network, K)
        for key, values in (("cam", expected.cam), ("attention", expected.attention)):
            assert [getattr(cell, key) for cell in findings.cells] == pytest.approx(values.tolist(), abs=2e-5), key
        assert expected.slide is not None
        assert findings.slide_probabilities == pytest.approx(expected.slide.tolist(), abs=1e-5)
        assert findings.quality.adequate is findings.quality.tiles_read is None
        assert "says nothing of the slide's quality" in findings.quality.notes[0]
        assert findings.provenance.used["activation"] == "grad_x_feature"
        assert findings.provenance.used["detector"] is findings.provenance.used["tile_px"] is None
        assert {path.name for path in (tmp_path / "out" / name).iterdir()} == FILES
    assert [found[name].cells[0].rerank_score for name in ("few", "again")] == [None, 0.5]
    assert found["again"].provenance.weights["cell_cls"] == "ab" * 32
    assert "detection" not in found["again"].provenance.weights
    report = (tmp_path / "out" / "few" / "report.html").read_text()
    assert report.count('alt="Cell ') == 2, "the crops of the bag"
    assert "There is no picture of the whole slide. The cells come from a bag file" in report
    assert "data-rank" not in report.split("<script>")[0], "no mark to go to"
    table = pq.read_table(tmp_path / "out" / "many" / "cells.parquet")
    assert table["cam"].to_pylist() == [cell.cam for cell in found["many"].cells]
    rows = list(csv.DictReader((tmp_path / "out" / "summary.csv").open()))
    assert [(row["slide_id"], row["file_name"], row["mpp_source"]) for row in rows] == [
        (name, f"{name}.bag.arrow", "bag") for name in ("again", "few", "many")
    ]
    assert (tmp_path / "out" / "run.json").is_file()
    # Done bags are not read again; one that has changed is.
    bag(tmp_path / "bags", "few", 3)
    infer(home, tmp_path / "bags", tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "summary.csv").open()))
    assert [row["resumed"] for row in rows] == ["True", "False", "True"]
    infer(home, [str(tmp_path / "bags" / f"{name}.bag.arrow") for name in ("many", "few")], tmp_path / "listed")
    assert findings_in(tmp_path / "listed", "many") == found["many"]


def test_a_screener_with_a_detector_takes_bags_and_says_nothing_of_it(home: Path, tmp_path: Path) -> None:
    path = bag(tmp_path, "b", 5, detector_sha256="ab" * 32)
    both = screener(home, home / "model.pt", on_bags=False, rerank=True)
    one = both.screen(path).findings
    other = screener(home, home / "model.pt", on_bags=True).screen(path).findings
    assert replace(one, provenance=other.provenance) == other
    assert one.provenance.weights == other.provenance.weights
    assert one.provenance.weights["detection"] == "ab" * 32
    assert one.provenance.weights_note == other.provenance.weights_note
    assert one.provenance.used == other.provenance.used
    assert both.config_hash(SlideInput(path, "b")) == one.provenance.config_hash


def test_a_bag_of_larger_crops_shows_what_the_networks_saw(home: Path, tmp_path: Path) -> None:
    crop = np.random.default_rng(1).integers(0, 255, (CROP_PX + 8, CROP_PX + 8, 3), dtype=np.uint8)
    header = BagHeader("big", 0.25, 0.5, CROP_PX + 8, 16)
    write_bag(tmp_path / "big.bag.arrow", header, [BagCell(0.9, Box(0, 0, 9, 9), encode_crop(crop))])
    made = screener(home, home / "model.pt", on_bags=True).screen(SlideInput(tmp_path / "big.bag.arrow", "big"))
    assert imagecodecs.jpeg8_decode(made.pictures.crops[1]).shape == (CROP_PX, CROP_PX, 3)
    assert made.pictures.overview == b""


def test_bags_that_do_not_fit_are_refused_by_name(home: Path, tmp_path: Path) -> None:
    short = bag(tmp_path / "short", "s7", 3, top_k=3)
    with pytest.raises(SlideError, match=r"slide 's7' was cut to its 3 best cells, not 4"):
        infer(home, short, tmp_path / "out")
    infer(home, short, tmp_path / "out", force=True)
    assert "forced on bags of 3 cells" in findings_in(tmp_path / "out", "s7").operating_point.source
    with pytest.raises(BundleError, match=r"bags of 4 cells, the configuration asks for 3"):
        infer(home, short, tmp_path / "out", top_k=3)
    network = make_classifier()
    nn.init.constant_(network.encoder.encoder.stem[0].bias, torch.nan)
    torch.save(network.state_dict(), tmp_path / "nan.pt")
    with pytest.raises(SlideError, match=r"slide 'n': .* non-finite"):
        infer(home, bag(tmp_path / "nan", "n", 5), tmp_path / "out", weights=str(tmp_path / "nan.pt"))
    with pytest.raises(SlideError, match=r"slide 'u' has a cell of unknown class 'HSIL'"):
        infer(home, with_unknown_class(bag(tmp_path / "unknown", "u", 5)), tmp_path / "out")
    (tmp_path / "unknown" / "broken.bag.arrow").write_bytes(b"ARROW1")
    with pytest.raises(SlideError, match=r"2 of 2 slides failed \(.*broken\.bag\.arrow is no bag or is damaged"):
        infer(home, tmp_path / "unknown", tmp_path / "out")


def test_an_empty_bag_is_a_slide_without_cells(home: Path, tmp_path: Path) -> None:
    infer(home, bag(tmp_path / "empty", "e", 0), tmp_path / "out")
    found = findings_in(tmp_path / "out", "e")
    assert (found.cells, found.score, found.slide_class, found.call) == ((), None, None, None)
    assert "no suspicious cell was detected" in (tmp_path / "out" / "e" / "report.html").read_text()


def with_unknown_class(path: Path) -> Path:
    """The bag as another program may write it."""
    with pa.OSFile(str(path)) as source:
        table = pa.ipc.open_file(source).get_batch(0)
    place = table.schema.get_field_index("cell_label")
    table = table.set_column(place, table.schema.field(place), pa.array(["HSIL", *[None] * (len(table) - 1)]))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as out:
        out.write_batch(table)
    return path
