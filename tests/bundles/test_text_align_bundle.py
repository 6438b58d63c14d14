"""The bundle text_align: trained on slides and on crops, resumed, on two processes, judged, used without its texts."""

from __future__ import annotations

import json
import logging
import shutil
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import processes
import pytest
import torch
from bundle_cohort import make_cohort
from bundle_files import config_files
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from tiny_roberta import write_roberta

from stride_monai.bethesda import CELL_CLASSES, DESCRIPTION_VOCABULARY, DESCRIPTIONS_BY_CLASS
from stride_monai.data.bags.labeled import write_labeled_bags
from stride_monai.data.cells import read_cells, write_cells
from stride_monai.data.descriptions import DescriptionRules, described_cells
from stride_monai.data.manifest import read_manifest, write_manifest
from stride_monai.errors import BundleError, ConfigError, ManifestError
from stride_monai.networks.alignment.aligner import DescriptionAligner, encoder_sha256
from stride_monai.networks.alignment.views import CellViews
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.weights import load_into, load_weights
from stride_monai.phantom.pairs import make_pairs
from stride_monai.workflows.load import load_bundle_network
from stride_monai.workflows.locate import bundle_root

ROOT = bundle_root("text_align")
N = len(DESCRIPTION_VOCABULARY)
SETTINGS: dict[str, Any] = {
    "bundle_root": str(ROOT),
    "encoder_name": "test_convnext",
    "init_part": "",
    "levels": [],
    "feature_dropout": 0.0,
    "crop_px": 64,
    "batch_size": 8,
    "max_epochs": 2,
    "learning_rate": 0.01,
    "log_iterations": True,
}


files = partial(config_files, ROOT)


def workflow(*names: str, **overrides: Any) -> ConfigWorkflow:
    made = ConfigWorkflow(files(*names), logging_file=False, **{**SETTINGS, **overrides})
    made.initialize()
    return made


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort with the weights of a cell classifier beside it."""
    folder = make_cohort(tmp_path_factory.mktemp("cohort") / "cohort")
    torch.manual_seed(0)
    torch.save(CellClassifier("test_convnext").state_dict(), folder / "encoder.pt")
    return folder


@pytest.fixture(scope="module")
def data(cohort: Path) -> dict[str, Any]:
    return {"dataset_dir": str(cohort), "init_weights": str(cohort / "encoder.pt")}


@pytest.fixture(scope="module")
def trained(data: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of two epochs on the slides."""
    out = tmp_path_factory.mktemp("trained")
    workflow("train", "tiny", **data, output_dir=str(out)).run()
    return out


def encoder(data: dict[str, Any]) -> CellClassifier:
    made = CellClassifier("test_convnext")
    load_into(made, data["init_weights"])
    return made


def last(folder: Path, name: str = "network") -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / "last.pt", weights_only=True)["objects"][name]
    return state


def assert_same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], atol: float = 0.0) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=atol, equal_nan=True, msg=name)


def test_training_leaves_what_screening_needs(
    data: dict[str, Any], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, _ = load_weights(trained / "model.pt")
    assert {name for name in state if "text" in name} == {"text_features"}, "no text encoder in it"
    torch.testing.assert_close(state["text_features"].norm(dim=1), torch.ones(N))
    copy = Path(shutil.copytree(ROOT, tmp_path / "text_align"))
    (copy / "configs" / "other.json").write_text(json.dumps({"encoder_name": "test_convnext", "levels": []}))
    monkeypatch.setattr("stride_monai.networks.alignment.aligner.TextBranch.__init__", lambda *_: pytest.fail("built"))
    loaded = load_bundle_network(copy, "tiny", weights=trained / "model.pt", overlays=["other"])
    aligner = loaded.network
    assert isinstance(aligner, DescriptionAligner)
    assert -1 < float(aligner.threshold) < 1
    aligner.check_encoder(encoder(data))
    assert (loaded.numbers["crop_px"], loaded.numbers["crop_mpp"]) == (128, 0.5)


def test_slides_and_crops_are_the_same_cells(data: dict[str, Any], cohort: Path, tmp_path: Path) -> None:
    """Crops keep the descriptions of their cells. They have been through JPEG, so features are nearly equal."""
    write_labeled_bags(cohort, tmp_path, crop_px=64)
    slides, crops = (
        workflow(*names, **data, **more, output_dir=str(tmp_path)).parser.get_parsed_content("train#dataset")
        for names, more in (
            (("train", "tiny"), {}),
            (("train", "from_crops", "tiny"), {"crop_dir": str(tmp_path)}),
        )
    )
    assert len(slides) == len(crops) == 48

    def ordered(part: Any) -> list[int]:
        return sorted(range(48), key=lambda k: (part.data[k]["slide_id"], k))

    for ours, theirs in zip(ordered(slides), ordered(crops), strict=True):
        assert slides.data[ours] == {key: crops.data[theirs][key] for key in ("slide_id", "label", "target")}
    similar = torch.cosine_similarity(slides.features[ordered(slides)], crops.features[ordered(crops)])
    assert float(similar.min()) > 0.9
    again = crops[3]
    assert torch.equal(again["image"], crops.features[3])
    assert sum(again["target"]) == min(2, len(DESCRIPTIONS_BY_CLASS[CELL_CLASSES[again["label"]]]))


def test_earlier_stages_and_the_prevalence_of_a_slide_are_options(data: dict[str, Any], tmp_path: Path) -> None:
    """Trained, judged and used with them; the class features are those of the encoder alone."""
    asked = {"levels": [0, 1], **data}
    pairs = tmp_path / "pairs"
    make_pairs(pairs, 2, names=("halo", "benign_halo"), centres=("north",), crop_px=64)
    drawn = {"pair_dir": str(pairs), "shares": {"pairs": 0.5}, "cells_per_epoch": 32, "balance": 0.5}
    made = workflow("train", "tiny", **asked, **drawn, prevalence=0.1, output_dir=str(tmp_path))
    made.run()
    sources = [item.get("source") for item in made.parser.get_parsed_content("train#encoded").data]
    assert sources.count("pairs") == 8
    assert len(list(made.parser.get_parsed_content("train#sampler"))) == 32
    of = encoder(data)
    features = made.parser.get_parsed_content("train#encoded").features
    assert features.shape[1] == CellViews(of, (0, 1)).feature_dim
    aligner = DescriptionAligner(features.shape[1], 64, 256, levels=(0, 1))
    load_into(aligner, tmp_path / "model.pt")
    assert float(aligner.prevalence) == pytest.approx(0.1)
    assert aligner.standard.running_mean.abs().sum() > 0
    done = {**asked, "weights": str(tmp_path / "model.pt"), "output_dir": str(tmp_path)}
    workflow("train", "tiny", "evaluate", **done, split="validation").run()
    report = json.loads((tmp_path / "description_report.json").read_text())
    assert report["threshold"] == pytest.approx(float(aligner.threshold))


def test_resumed_after_a_stop_it_ends_where_it_would_have(data: dict[str, Any], trained: Path, tmp_path: Path) -> None:
    """With dropout, whose draws must be those of the epoch."""
    whole, asked = tmp_path / "whole", {**data, "feature_dropout": 0.3}
    workflow("train", "tiny", **asked, output_dir=str(whole)).run()
    assert not torch.equal(last(whole)["image_projection.weight"], last(trained)["image_projection.weight"])
    stopped = workflow("train", "tiny", **asked, output_dir=str(tmp_path))
    trainer = stopped.parser.get_parsed_content("train#trainer")
    trainer.add_event_handler(Events.EPOCH_STARTED(once=2), lambda engine: engine.terminate())
    with suppress(RuntimeError):
        trainer.run()
    assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == 1
    workflow("train", "tiny", **asked, output_dir=str(tmp_path), resume="auto").run()
    for name in ("network", "text_branch"):
        assert_same(last(tmp_path, name), last(whole, name))


def test_two_processes_are_one(data: dict[str, Any], trained: Path, tmp_path: Path) -> None:
    arguments: list[object] = ["run", "--config_file", files("train", "multi_gpu_train", "tiny")]
    for key, value in {**SETTINGS, **data, "output_dir": str(tmp_path)}.items():
        arguments += [f"--{key}", value]
    done = processes.run_ranks(2, "monai.bundle", arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    for name in ("network", "text_branch"):
        assert_same(last(tmp_path, name), last(trained, name), atol=1e-4)


def test_trains_on_from_earlier_weights_with_masked_classes_and_augmentation(
    data: dict[str, Any], trained: Path, tmp_path: Path
) -> None:
    """One run for what can be switched on together."""
    more = {"start_from": str(trained), "class_mask": True, "augmentation": "weak", "max_epochs": 1}
    made = workflow("train", "tiny", **data, **more, output_dir=str(tmp_path))
    get = made.parser.get_parsed_content
    assert_same(get("text_branch").state_dict(), load_weights(trained / "text_branch.pt")[0])
    assert_same(get("network_def").state_dict(), load_weights(trained / "model.pt")[0])
    image = get("encoder").state_dict()
    before = {name: value.clone() for name, value in image.items()}
    made.run()
    assert get("train#trainer").state.output["image"].shape == (8, 3, 64, 64)
    assert int(get("train#trainer").state.output["label"].min()) == -1
    assert_same(get("encoder").state_dict(), before)
    assert not torch.equal(
        last(tmp_path, "text_branch")["encoder.table.weight"], last(trained, "text_branch")["encoder.table.weight"]
    )


def test_trains_a_text_encoder_from_a_folder(data: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    folder = write_roberta(tmp_path / "roberta")
    more = {"text_encoder": str(folder), "max_epochs": 1, "learning_rate": 0.001}
    made = workflow("train", "tiny", **data, **more, output_dir=str(tmp_path / "out"))
    words = made.parser.get_parsed_content("text_def").model.embeddings.word_embeddings.weight
    before = words.clone()
    made.run()
    assert not torch.equal(words, before)
    assert (tmp_path / "out" / "model.pt").is_file()


def test_a_missing_text_encoder_stops_before_training(data: dict[str, Any], tmp_path: Path) -> None:
    arguments = {**data, "text_encoder": str(tmp_path / "nowhere"), "output_dir": str(tmp_path / "out")}
    with pytest.raises(BundleError, match="--text_encoder table"):
        workflow("train", "tiny", **arguments)


def test_evaluation_reports_what_it_measured(data: dict[str, Any], trained: Path, tmp_path: Path) -> None:
    run = {**data, "weights": str(trained / "model.pt")}
    workflow("train", "tiny", "evaluate", **run, output_dir=str(tmp_path)).run()
    report = json.loads((tmp_path / "description_report.json").read_text())
    assert report["cells"] == 48
    assert report["threshold"] == pytest.approx(float(load_weights(trained / "model.pt")[0]["threshold"]))
    rows = report["descriptions"]
    assert list(rows) == list(DESCRIPTION_VOCABULARY)
    assert sum(row["cells"] for row in rows.values()) == 32 * 1 + 16 * 2, "two slides of three hold lesions in half"
    hits = sum((row["recall"] or 0) * row["cells"] for row in rows.values())
    said, there = (sum(row[key] for row in rows.values()) for key in ("kept", "cells"))
    assert report["micro"]["f1"] == pytest.approx(2 * hits / (said + there), abs=1e-5)
    assert report["right_class"]["cells"] + report["wrong_class"]["cells"] == 48
    assert sum(part["cells"] for part in report["classes"].values()) == 48
    assert len(report["curve"]["threshold"]) == len(report["curve"]["exact"]) == 101
    assert {path.name for path in tmp_path.glob("*.png")} == {"description_curves.png", "description_scores.png"}
    torch.manual_seed(9)
    torch.save(CellClassifier("test_convnext").state_dict(), tmp_path / "other.pt")
    with pytest.raises(BundleError, match="aligned with the image encoder"):
        workflow(
            "train", "tiny", "evaluate", **{**run, "init_weights": str(tmp_path / "other.pt")}, output_dir=str(tmp_path)
        ).run()


def test_inference_keeps_what_is_above_the_threshold(
    data: dict[str, Any], cohort: Path, trained: Path, tmp_path: Path
) -> None:
    settings = {key: SETTINGS[key] for key in ("bundle_root", "encoder_name", "init_part", "crop_px", "levels")}
    run = {**settings, "init_weights": data["init_weights"], "weights": str(trained / "model.pt")}
    bag = cohort / "bags" / "test-LSIL.bag.arrow"
    made = ConfigWorkflow(
        files("inference", "tiny"), logging_file=False, **run, dataset_dir=str(bag), output_dir=str(tmp_path)
    )
    made.initialize()
    made.run()
    record = json.loads((tmp_path / "test-LSIL.descriptions.json").read_text())
    assert record["encoder_sha256"] == encoder_sha256(encoder(data))
    assert len(record["cells"]) == 16
    assert {cell["known_class"] for cell in record["cells"]} == {"NILM", "LSIL"}
    for cell in record["cells"]:
        above = {t for t, s in zip(record["texts"], cell["similarities"], strict=True) if s > record["threshold"]}
        assert {kept["text"] for kept in cell["descriptions"]} == above
        for kept in cell["descriptions"]:
            assert kept["fits_class"] == (kept["text"] in DESCRIPTIONS_BY_CLASS[cell["class"]])


def test_what_is_a_target_is_decided_and_counted(cohort: Path, caplog: pytest.LogCaptureFixture) -> None:
    def row(*texts: str) -> tuple[int, ...]:
        return tuple(int(text in texts) for text in DESCRIPTION_VOCABULARY)

    rules, strict = DescriptionRules(), DescriptionRules("leave_out", class_mask=True)
    membrane = "irregular nuclear membrane or contour"
    assert rules.target("LSIL", [membrane, "odd"]) == (row(membrane), ("odd",), False)
    assert rules.target("AGC", ["cytoplasmic vacuolation", membrane]).row == row("atypical glandular cells")
    assert rules.target("LSIL", ["cytoplasmic vacuolation"]) == (None, ("cytoplasmic vacuolation",), False)
    assert rules.target("NILM", []) == (row("normal cell"), (), True)
    assert rules.target("NILM", ["atrophy"]).row is None, "it was described, in words that are no target"
    assert rules.target("LSIL", []).row is None
    assert strict.target("NILM", []).row is None
    masked = strict.target("ASC-US", [membrane, "normal cell"]).row
    assert masked is not None
    listed = {*DESCRIPTIONS_BY_CLASS["ASC-US"], "normal cell"}
    assert [n >= 0 for n in masked] == [text in listed for text in DESCRIPTION_VOCABULARY]
    assert [n == 1 for n in masked] == [text in {membrane, "normal cell"} for text in DESCRIPTION_VOCABULARY]
    with pytest.raises(ConfigError, match="use implied, by_class or leave_out"):
        DescriptionRules("whatever")
    caplog.set_level(logging.INFO, logger="stride_monai.data.descriptions")
    found = rules.targets([0, 0, 2, 2, 2], [["normal cell"], [], [], ["odd"], [membrane, "odd"]], "five cells")
    assert [target.row is not None for target in found] == [True, True, False, False, True]
    said = caplog.text
    assert "five cells: 3 described cells, of 1 of them the class says the text" in said
    assert "1 labelled cells have no description and are left out" in said
    assert "1 cells have free text alone and are left out" in said
    assert "2 free texts are no targets, e.g. 'odd' (2)" in said
    with pytest.raises(ManifestError, match="none of 1 labelled cells has a description"):
        rules.targets([2], [[]], "one cell")
    assert len(described_cells(cohort, "test")) == 48


def test_a_class_says_which_texts_do_not_apply(caplog: pytest.LogCaptureFixture) -> None:
    rules = DescriptionRules("by_class")
    lesion = rules.target("LSIL", [])
    assert lesion.row is not None
    assert not lesion.implied
    for number, text in zip(lesion.row, DESCRIPTION_VOCABULARY, strict=True):
        assert number == (-1 if text in DESCRIPTIONS_BY_CLASS["LSIL"] else 0), text
    assert lesion.row[DESCRIPTION_VOCABULARY.index("normal cell")] == 0
    others = [("NILM", []), ("AGC", []), ("LSIL", ["irregular nuclear membrane or contour"]), ("LSIL", ["odd"])]
    for name, texts in others:
        assert rules.target(name, texts) == DescriptionRules().target(name, texts), "these are as they were"
    caplog.set_level(logging.INFO, logger="stride_monai.data.descriptions")
    rules.targets([0, 2], [["normal cell"], []], "two cells")
    assert "two cells: 1 described cells, of 0" in caplog.text
    assert "of 1 cells without a description the class says what does not apply" in caplog.text
    with pytest.raises(ManifestError, match="none of 1 labelled cells has a description"):
        rules.targets([2], [[]], "one cell")
    with pytest.raises(ConfigError, match="leave one of the two out"):
        DescriptionRules("by_class", class_mask=True)


@pytest.mark.parametrize("names", [("train", "tiny"), ("train", "from_crops", "tiny")])
def test_lesions_without_a_description_teach_and_do_not_judge(
    names: tuple[str, ...], data: dict[str, Any], cohort: Path, tmp_path: Path
) -> None:
    silent = tmp_path / "silent"
    cells = read_cells(cohort / "cells.csv")
    write_cells(silent / "cells.csv", [replace(c, descriptions=()) if k % 2 else c for k, c in enumerate(cells)])
    write_manifest(silent / "manifest.csv", read_manifest(cohort / "manifest.csv"))
    write_labeled_bags(silent, silent / "crops", crop_px=64)
    counts = {}
    for rule in ("implied", "by_class"):
        given = {**data, "dataset_dir": str(silent), "output_dir": str(tmp_path / rule), "undescribed": rule}
        parser = workflow(*names, **given).parser
        taught, judged = (parser.get_parsed_content(f"{part}#cells").data for part in ("train", "validate"))
        assert all(1 in item["target"] for item in judged)
        counts[rule] = len(taught), len(judged)
    assert counts["by_class"][0] > counts["implied"][0]
    assert counts["by_class"][1] == counts["implied"][1]
