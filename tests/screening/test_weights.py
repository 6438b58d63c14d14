"""Weights of one's own in screening: by stage, in bundles of one's own, over what came with the package."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import processes
import pytest
import torch
from detection_toys import DarkSpots
from extras import needs
from torch import Tensor, nn
from toy_bundles import findings_in, make_aligner, make_classifier, screened, screening_home
from typer.testing import CliRunner

from stride_monai.cli.main import app
from stride_monai.errors import BundleError, ConfigError
from stride_monai.files import sha256_of
from stride_monai.networks.detection.fcos import FcosDetector
from stride_monai.networks.ema import EmaModel
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.networks.weights import load_into, save_weights
from stride_monai.screening.config import ScreeningConfig, parse_weights
from stride_monai.screening.doctor import examine
from stride_monai.screening.loaders import load_classifier, load_models
from stride_monai.screening.store import BundleStore, Choice, Chosen, Source, check_config
from stride_monai.weights_files import kind_of_weights
from stride_monai.workflows.load import untrained_network
from stride_monai.workflows.locate import bundle_root

CPU = torch.device("cpu")
SHIPPED = bundle_root("detection").parent


# The option.


def test_weights_are_named_by_stage() -> None:
    found = parse_weights(["detection=a.pt", "swift_mil = base.safetensors", "swift_mil=more=1.pt"])
    assert found == {"detection": (Path("a.pt"),), "swift_mil": (Path("base.safetensors"), Path("more=1.pt"))}
    assert parse_weights(["text_align=~/a.pt"])["text_align"] == (Path.home() / "a.pt",)
    assert parse_weights([]) == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model.pt", "names no stage and file: e.g. --weights detection="),
        ("detection=", "names no stage and file"),
        ("=model.pt", "names no stage and file"),
        ("detector=model.pt", "unknown stage of --weights 'detector'.* did you mean detection"),
        ("swift-mil=model.pt", "did you mean swift_mil"),
        ("stain=model.pt", "choose from detection, cell_cls, swift_mil, coloradv, text_align"),
    ],
)
def test_other_texts_are_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_weights([text])


@pytest.fixture
def some(tmp_path: Path) -> Path:
    torch.save({"a": torch.zeros(1)}, tmp_path / "some.pt")
    return tmp_path / "some.pt"


@pytest.mark.parametrize(
    ("stages", "options", "says"),
    [
        (["cell_cls"], {"rerank": False}, "cell_cls is about re-ranking, --no-rerank forbids it: leave one of the two"),
        (["cell_cls"], {"rerank": True, "reranker": "mine.pt"}, "--reranker and --weights cell_cls both"),
        ([], {"rerank": True, "reranker": "nowhere.pt"}, "there is no weights file .*nowhere.pt"),
        (["text_align"], {"descriptions": False}, "not used by --no-descriptions"),
        (["swift_mil", "coloradv"], {}, "one of which decides: say which: --classifier"),
        (["coloradv"], {"classifier": "swift_mil"}, "not used by --classifier swift_mil"),
        (["detection"], {"detector": "yolo9"}, "unknown detector 'yolo9'"),
        (["detection"], {"classifier": "resnet"}, "unknown slide classifier 'resnet'"),
        (["detection"], {"profile": "small"}, "unknown profile 'small'"),
        (["detection"], {"bundles": Path("nowhere")}, "there is no folder .*/nowhere"),
        (["detector"], {}, "unknown stage of --weights 'detector'"),
    ],
)
def test_contradictions_are_refused_at_once(some: Path, stages: list[str], options: dict[str, Any], says: str) -> None:
    with pytest.raises((ConfigError, BundleError), match=says):
        check_config(ScreeningConfig(weights=dict.fromkeys(stages, (some,)), **options))


def test_what_is_in_order_passes_and_torch_is_not_imported(some: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from stride_monai.screening.store import check_config\n"
        "from stride_monai.screening.config import ScreeningConfig, parse_weights\n"
        "stages = ('detection', 'swift_mil', 'text_align', 'cell_cls')\n"
        f"weights = parse_weights([stage + '={some}' for stage in stages])\n"
        f"check_config(ScreeningConfig(weights=weights, rerank=True, bundles=Path({str(SHIPPED)!r})))\n"
        "assert not {'torch', 'monai'} & sys.modules.keys(), 'heavy'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# The files.


def _archive(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")


def _cut(path: Path, whole: Path) -> None:
    path.write_bytes(whole.read_bytes()[:-8])


ODD: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "missing": (lambda path, _: None, "there is no weights file .*in its folder are whole.pt, whole.safetensors"),
    "folder": (lambda path, _: path.mkdir(), "is a folder"),
    "empty": (lambda path, _: path.touch(), "is empty"),
    "table": (lambda path, _: path.write_text("slide_id,path\n"), "is no weights file, or is damaged"),
    "json": (lambda path, _: path.write_text('{"a": 1, "b": [2, 3]}'), "is no weights file"),
    "lfs": (
        lambda path, _: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
        "Git LFS pointer.*git lfs",
    ),
    "page": (lambda path, _: path.write_text("<!DOCTYPE html><html></html>"), "web page"),
    "hdf5": (lambda path, _: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "HDF5"),
    "script": (lambda path, _: _archive(path, "a/constants.pkl", "a/data.pkl"), "exported to TorchScript"),
    "document": (lambda path, _: _archive(path, "word/document.xml"), "no checkpoint of PyTorch"),
    "cut archive": (lambda path, whole: _cut(path, whole.with_suffix(".pt")), "cut short or damaged"),
    "cut tensors": (lambda path, whole: _cut(path, whole), "cut short"),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_weights_file_is_refused_by_its_full_path_and_what_it_is(tmp_path: Path, kind: str) -> None:
    torch.save({"a": torch.zeros(400)}, tmp_path / "whole.pt")
    save_weights(tmp_path / "whole.safetensors", {"a": torch.zeros(400)}, {})
    make, says = ODD[kind]
    make(tmp_path / "odd", tmp_path / "whole.safetensors")
    with pytest.raises(BundleError, match=says) as caught:
        kind_of_weights(tmp_path / "odd")
    assert str(tmp_path / "odd") in str(caught.value)
    with pytest.raises(BundleError, match=says):
        check_config(ScreeningConfig(weights={"detection": (tmp_path / "odd",)}))


def test_a_file_is_what_it_holds_whatever_its_name(tmp_path: Path) -> None:
    network = nn.Linear(2, 3)
    save_weights(tmp_path / "tensors.pt", network.state_dict(), {"note": "n"}, half=False)
    torch.save(network.state_dict(), tmp_path / "checkpoint.safetensors")
    torch.save(network.state_dict(), tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    for name in ("tensors.pt", "checkpoint.safetensors", "old.bin"):
        other = nn.Linear(2, 3)
        load_into(other, tmp_path / name)
        assert torch.equal(other.weight, network.weight)


def _optimizer(network: nn.Module) -> dict[str, Any]:
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


FORMS: dict[str, Callable[[nn.Module, nn.Module], Any]] = {
    "bare": lambda net, ema: net.state_dict(),
    "model": lambda net, ema: {"model": net.state_dict()},
    "MONAI's CheckpointSaver": lambda net, ema: {"network": net.state_dict(), "optimizer": _optimizer(ema), "epoch": 3},
    "net": lambda net, ema: {"epoch": 1, "net": net.state_dict()},
    "any name": lambda net, ema: {"my_network": net.state_dict(), "ema_of_another": {"x": torch.zeros(3)}},
    "Lightning": lambda net, ema: {"state_dict": {f"model.{k}": v for k, v in net.state_dict().items()}, "step": 3},
    "data parallel": lambda net, ema: {f"module.{k}": v for k, v in net.state_dict().items()},
    "compiled, parallel": lambda net, ema: {f"_orig_mod.module.{k}": v for k, v in net.state_dict().items()},
    "moving average": lambda net, ema: EmaModel(net).state_dict(),
    "torch's average": lambda net, ema: torch.optim.swa_utils.AveragedModel(net).state_dict(),
    "last.pt": lambda net, ema: {
        "epoch": 1,
        "best": {"trainer": (0.0, 1)},
        "objects": {"network": net.state_dict(), "optimizer": _optimizer(ema)},
    },
    "last.pt with a moving average": lambda net, ema: {
        "epoch": 1,
        "objects": {"network": ema.state_dict(), "ema": EmaModel(net).state_dict()},
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_checkpoints_of_every_form_give_the_network(tmp_path: Path, form: str) -> None:
    torch.manual_seed(1)
    trained, other, got = (nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)) for _ in range(3))
    torch.save(FORMS[form](trained, other), tmp_path / "model.pt")
    load_into(got, tmp_path / "model.pt")
    for name, value in trained.state_dict().items():
        assert torch.equal(got.state_dict()[name], value), name
    if form != "any name":
        part = nn.Linear(2, 3)
        load_into(part, tmp_path / "model.pt", source="0")
        assert torch.equal(part.weight, trained[0].weight)


def test_a_second_file_must_be_one_of_differences(tmp_path: Path) -> None:
    network = nn.Linear(2, 3)
    for name in ("a.pt", "b.pt"):
        torch.save(network.state_dict(), tmp_path / name)
    with pytest.raises(
        BundleError, match=r"/b\.pt holds the whole network, not what differs from a\.pt: give it alone"
    ):
        load_into(network, [tmp_path / "a.pt", tmp_path / "b.pt"])


def test_a_misfit_is_counted_in_words(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3, 5), "other": torch.zeros(1)}, tmp_path / "a.pt")
    with pytest.raises(BundleError) as caught:
        load_into(nn.Linear(2, 3), tmp_path / "a.pt")
    said = str(caught.value)
    assert str(tmp_path / "a.pt") in said
    assert "1 of 2 tensors are missing, first bias; 1 are not the network's, first other; " in said
    assert "1 have another shape, first weight: (3, 5) instead of (3, 2)" in said


# What they seem to be.


def random_state(stage: str, profile: str = "tiny", detector: str = "") -> dict[str, Tensor]:
    home = SHIPPED / stage
    torch.manual_seed(7)
    return dict(untrained_network(home, profile, Source("", home, profile).overlays(detector)).state_dict())


def _first(state: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    return dict(list(state.items())[:count])


MISFITS: dict[str, tuple[str, Callable[[], Mapping[str, Tensor]], str]] = {
    "another profile": (
        "cell_cls",
        lambda: random_state("cell_cls", "paper"),
        "does not fit cell_cls in the tiny profile: it holds .* of cell_cls in the paper profile: add --profile",
    ),
    "another stage": (
        "swift_mil",
        lambda: random_state("text_align"),
        "holds the weights of text_align in the tiny profile: say --weights text_align=",
    ),
    "another detector": (
        "detection",
        lambda: random_state("detection", detector="fcos"),
        r"holds the weights of detection in the tiny profile \(fcos\): add --detector fcos",
    ),
    "differences": (
        "swift_mil",
        lambda: _first(random_state("swift_mil"), 3),
        "holds only what differs from other weights of swift_mil .*: give those first: --weights swift_mil=BASE",
    ),
    "unknown": ("cell_cls", lambda: {"x": torch.zeros(3)}, "tensors are missing.*stride-monai bundle copy cell_cls"),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_weights_that_do_not_fit_are_refused_by_what_they_are(tmp_path: Path, kind: str) -> None:
    stage, state, says = MISFITS[kind]
    if stage == "detection":
        needs("ultralytics", "yolo")
    torch.save(state(), tmp_path / "mine.pt")
    store = BundleStore(weights={stage: (tmp_path / "mine.pt",)})
    with pytest.raises(BundleError, match=says) as caught:
        store.load(stage, "yolo" if stage == "detection" else "")
    assert str(tmp_path / "mine.pt") in str(caught.value)


# Screening with them. The toys are at the "paper" profile of bundles of their own.


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return screening_home(tmp_path_factory.mktemp("home"))


@pytest.fixture
def mine(home: Path, tmp_path: Path) -> dict[str, Path]:
    """Other weights for each toy stage, as training writes them; the slide classifier's for this detector."""
    torch.manual_seed(3)
    files = {name: tmp_path / "out" / name / "model.pt" for name in ("detection", "swift_mil", "text_align")}
    for path in files.values():
        path.parent.mkdir(parents=True)
    detector = DarkSpots()
    nn.init.constant_(detector.weight, 2.0)
    torch.save(detector.state_dict(), files["detection"])
    network = make_classifier(sha256_of(files["detection"]))
    torch.save({"model": network.state_dict()}, files["swift_mil"])
    torch.save(make_aligner(network.encoder, threshold=0.2).state_dict(), files["text_align"])
    return files


def weights_of(files: Mapping[str, Path], *names: str) -> dict[str, tuple[Path, ...]]:
    return {name: (files[name],) for name in names}


def test_findings_say_where_each_part_s_weights_came_from(home: Path, mine: dict[str, Path]) -> None:
    found = screened(home, weights=weights_of(mine, "detection", "swift_mil", "text_align"))
    provenance = found.provenance
    assert found.call is not None
    assert provenance.weights == {name: sha256_of(file) for name, file in mine.items()}
    assert provenance.requested["weights"] == {name: ["model.pt"] for name in mine}
    assert provenance.used["weights"] == {name: ["model.pt"] for name in mine}
    assert provenance.used["weights_from"] == dict.fromkeys(mine, "given")
    assert provenance.used["why"]["classifier"] == "its weights were given"
    assert found.described.why == "its weights were given"
    assert found.described.threshold == pytest.approx(0.2)
    assert str(mine["detection"].parent) not in found.to_json()
    part = screened(home, weights=weights_of(mine, "text_align")).provenance
    assert (part.used["weights_from"]["coloradv"], part.used["weights"]["coloradv"]) == (
        "own bundle",
        ["model.safetensors"],
    )
    assert part.config_hash != provenance.config_hash


def test_a_detector_under_a_threshold_of_another_is_scored_and_not_called(home: Path, mine: dict[str, Path]) -> None:
    for names in (["detection"], ["swift_mil"]):
        found = screened(home, weights=weights_of(mine, *names))
        assert found.score is not None
        assert found.call is None
        assert not found.operating_point.holds
        assert "set on the cells of another detector" in found.operating_point.source
        assert "no call is made" in found.provenance.weights_note
        assert "calibrate.json" in found.provenance.weights_note
    assert screened(home, weights=weights_of(mine, "detection"), force=True).call is not None


def test_a_bundle_of_one_s_own_alone_takes_the_others_from_the_package(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "text_align", tmp_path / "text_align")
    store = BundleStore(tmp_path)
    assert (store["text_align"].how, store["detection"].how) == ("own bundle", "shipped")
    with pytest.raises(BundleError, match=r"detection .*no weights at the paper's settings ship: train detection"):
        load_models(ScreeningConfig(bundles=tmp_path, profile="paper", device="cpu"))
    assert BundleStore(SHIPPED)["detection"].how == "shipped", "named or not, these came with the package"


def test_words_that_came_with_the_package_are_passed_over_and_named_ones_refused(
    home: Path, mine: dict[str, Path], tmp_path: Path
) -> None:
    other = tmp_path / "other.pt"
    torch.manual_seed(9)
    torch.save(make_aligner(CellClassifier("test_convnext")).state_dict(), other)
    with pytest.raises(BundleError, match=r"image encoder .*train text_align on this one.*--no-descriptions"):
        screened(home, weights={"text_align": (other,)})
    # Its encoder is another than that of the bundle's text_align: of what was not named nothing is asked.
    state = make_classifier(sha256_of(mine["detection"])).state_dict()
    torch.save(state | {"encoder.encoder.stem.0.bias": state["encoder.encoder.stem.0.bias"] + 1}, mine["swift_mil"])
    found = screened(home, weights=weights_of(mine, "detection", "swift_mil"))
    assert not found.described.made
    assert "image encoder" in found.described.why
    with pytest.raises(BundleError, match="image encoder"):
        screened(home, weights=weights_of(mine, "detection", "swift_mil"), descriptions=True)


def test_the_bag_size_is_that_of_the_weights(home: Path, mine: dict[str, Path]) -> None:
    state = torch.load(mine["swift_mil"])["model"]
    torch.save(state | {"bag_size": torch.tensor(3)}, mine["swift_mil"])
    found = screened(home, weights=weights_of(mine, "detection", "swift_mil"))
    assert found.operating_point.bag_size == found.provenance.used["bag_size"] == 3
    assert sum(cell.attention > 0 for cell in found.cells) == 3
    assert found.call is not None


@pytest.fixture
def own(home: Path, tmp_path: Path) -> Path:
    for name in ("detection", "swift_mil", "text_align"):
        shutil.copytree(home / name, tmp_path / "bundles" / name)
        (tmp_path / "bundles" / name / "models").mkdir(exist_ok=True)
    return tmp_path / "bundles"


def test_what_training_left_in_a_bundle_s_models_is_used_where_it_is_alone(own: Path) -> None:
    bundle = own / "swift_mil"
    trained = bundle / "models" / "model.pt"
    torch.save(make_classifier(sha256_of(own / "detection" / "model.safetensors")).state_dict(), trained)
    said = rf"has model.safetensors, .* and model.pt, .*--weights swift_mil={trained} or"
    with pytest.raises(BundleError, match=said):
        load_models(ScreeningConfig(bundles=own, profile="paper", device="cpu"))
    named = ScreeningConfig(bundles=own, profile="paper", device="cpu", weights={"swift_mil": [trained]})
    assert load_models(named).origins["swift_mil"].files == (trained,)
    (bundle / "model.safetensors").unlink()
    models = load_models(ScreeningConfig(bundles=own, profile="paper", device="cpu"))
    assert models.origins["swift_mil"] == ("own bundle", (trained,))
    assert models.weights["swift_mil"] == sha256_of(trained)
    trained.unlink()
    with pytest.raises(
        BundleError, match=r"/swift_mil/model\.safetensors .*--weights swift_mil=FILE, or take swift_mil out"
    ):
        load_models(ScreeningConfig(bundles=own, profile="paper", device="cpu"))


def test_a_folder_that_holds_no_bundle_is_refused_with_the_way_out(own: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bare" / "detection" / "models").mkdir(parents=True)
    (tmp_path / "bare" / "detection" / "models" / "model.pt").touch()
    for folder, says in (
        (own / "detection", "is itself a bundle: name the folder in which it lies"),
        (tmp_path / "empty", "holds no bundle: name a folder with some of detection"),
        (tmp_path / "bare", "no configs/inference.json: name its weights by --weights detection=.*models/model.pt"),
        (tmp_path / "nowhere", "there is no folder"),
    ):
        with pytest.raises(BundleError, match=says):
            BundleStore.of(ScreeningConfig(bundles=folder))


@pytest.mark.slow
def test_the_shipped_bundles_take_weights_of_one_s_own(tmp_path: Path) -> None:
    """The detector is the one that the weights fit; a base goes with what differs from it."""
    torch.save(random_state("detection", detector="fcos"), tmp_path / "mine.pt")
    shipped = SHIPPED / "swift_mil" / "models"
    slides = [shipped / "tiny.safetensors", shipped / "tiny_fcos.safetensors"]
    weights = {"detection": [tmp_path / "mine.pt"], "swift_mil": slides}
    models = load_models(ScreeningConfig(device="cpu", weights=weights))
    assert isinstance(models.detector, FcosDetector)
    assert models.detector_choice.name == "fcos"
    assert models.origins["swift_mil"].files == tuple(slides)
    assert not models.operating_point.holds
    assert models.explainer.facts.made, "the encoder is the one that text_align knows"
    assert models.origins["text_align"].how == "shipped"


def test_the_command_line_names_the_weights_and_the_run_keeps_their_paths(
    home: Path, mine: dict[str, Path], tmp_path: Path
) -> None:
    call = ["screen", str(home / "one.png"), "--mpp", "0.5", "--bundles", str(home), "--profile", "paper"]
    call += [word for name, file in mine.items() for word in ("--weights", f"{name}={file}")]
    ran = processes.run("stride_monai", [*call, "--out", tmp_path / "out"])
    assert ran.returncode == 0, ran.stderr
    said = " ".join(ran.stdout.split())
    for name, file in mine.items():
        assert f"weights {sha256_of(file)[:12]} (model.pt, given)" in said, name
    run = json.loads((tmp_path / "out" / "run.json").read_text())["run"]
    assert run["weights_from"]["detection"] == {"from": "given", "files": [str(mine["detection"])]}
    assert findings_in(tmp_path / "out", "one").call is not None
    for words, says in (
        (["--weights", "detektion=a.pt"], "did you mean detection"),
        (["--weights", f"detection={tmp_path}/no.pt"], "there is no weights file"),
    ):
        done = CliRunner().invoke(app, [*call[:2], "--out", str(tmp_path / "no"), *words])
        assert done.exit_code != 0
        assert says in str(done.exception)
        assert not (tmp_path / "no").exists()


@pytest.mark.slow
def test_the_doctor_tells_of_weights_of_one_s_own(tmp_path: Path) -> None:
    torch.save(random_state("detection", detector="fcos"), tmp_path / "mine.pt")
    config = ScreeningConfig(weights={"detection": (tmp_path / "mine.pt",)})
    checks = {check.name: check for check in examine(config)}
    assert checks["screens detection"].detail.startswith(f"{tmp_path / 'mine.pt'}, given, sha256 ")
    assert checks["detector"].detail.startswith("fcos (")
    assert "no call is made" in checks["call"].advice
    torch.save({"x": torch.zeros(1)}, tmp_path / "mine.pt")
    assert {check.name: check.state for check in examine(config)}["screening"] == "problem"


@pytest.mark.parametrize(
    ("settings", "known"),
    [
        ({"head": "stride"}, True),
        ({"head": "gated_abmil", "score_input": True}, True),
        ({"head": "mean"}, False),  # the tensors of max are the same
    ],
)
def test_weights_of_another_slide_head_are_recognized(tmp_path: Path, settings: dict[str, Any], known: bool) -> None:
    """A training with ``--head`` gives weights that screening takes as they are, and says so."""
    network = untrained_network(SHIPPED / "swift_mil", "tiny", (), settings)
    assert isinstance(network, SlideClassifier)
    network.set_operating_point(0.5)
    file = tmp_path / "model.pt"
    torch.save(network.state_dict(), file)
    store = BundleStore(weights={"swift_mil": (file,)})
    if not known:
        with pytest.raises(BundleError, match=r"weights of other settings .*--head"):
            store.load("swift_mil", "fcos")
        return
    loaded = store.load("swift_mil", "fcos")
    assert type(loaded.network.slide_head) is type(network.slide_head)
    assert loaded.numbers["head"] == settings["head"]
    assert torch.equal(loaded.network.slide_head.classifier.weight, network.slide_head.classifier.weight)
    chosen = load_classifier(store, Chosen(Choice("fcos", "a test"), loaded))
    assert chosen.choice.why == f"its weights were given; slide head {settings['head']}"
