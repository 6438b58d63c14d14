"""The model zoo's acceptance checks, for every bundle; each is trained, evaluated and run for a few iterations."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import monai.bundle
import processes
import pytest
import torch
import tracker
from bundle_cohort import make_cohort
from bundle_files import config_files as files
from monai.bundle import ConfigParser, ConfigWorkflow

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.parent.parent.name for path in (ROOT / "bundles").glob("*/configs/metadata.json"))
SAME_NETWORK = {"coloradv": "swift_mil"}  # another training of it
OF_EACH_NETWORK = pytest.mark.parametrize("root", [name for name in NAMES if name not in SAME_NETWORK], indirect=True)
SCHEMA = Path(__file__).parent / "schema" / "meta_schema_20240725.json"
SEES_TRACKER = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'helpers'}"}
CONFIGS = ("train", "evaluate", "inference", "multi_gpu_train", "tiny")
SECTIONS = (
    "Authors",
    "Tags",
    "Model Description",
    "Data",
    "Performance",
    "Additional Usage Steps",
    "System Configuration",
    "Limitations",
    "Citation",
    "References",
)
EXPORT_SHAPE = {
    "detection": [1, 3, 128, 128],
    "cell_cls": [1, 3, 64, 64],
    "swift_mil": [1, 4, 3, 64, 64],
    "text_align": [1, 1984],
}
EPOCHS = "train#trainer#max_epochs"  # the key that the model zoo sets; fewer epochs than the interval of validation
REDUCED: dict[str, dict[str, dict[str, Any]]] = {
    "detection": {
        "train": {"batch_size": 2, EPOCHS: 1, "tile_px": 128},
        "evaluate": {"tile_px": 128},
        "inference": {"split": "test"},
    },
    "cell_cls": {
        "train": {"batch_size": 8, EPOCHS: 1, "cells_per_epoch": 32, "random_negatives": 0},
        "evaluate": {},
        "inference": {},
    },
    "swift_mil": {
        "train": {
            "batch_size": 2,
            EPOCHS: 1,
            "init_weights": "",
            "batch_norm": "frozen",
            "cell_batch_size": 8,
            "top_k": 8,
        },
        "evaluate": {"top_k": 8},
        "inference": {"top_k": 8},
    },
}
REDUCED["coloradv"] = REDUCED["swift_mil"]
REDUCED["text_align"] = {"train": {"batch_size": 8, EPOCHS: 1}, "evaluate": {}, "inference": {}}


def strings(value: Any) -> Iterator[tuple[str, str]]:
    """Every (key, text) of a configuration, at any depth."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if isinstance(item, str):
            yield str(key), item
        yield from strings(item)


@pytest.fixture(params=NAMES)
def root(request: pytest.FixtureRequest) -> Path:
    return ROOT / "bundles" / str(request.param)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cohort(tmp_path_factory.mktemp("cohort") / "cohort")


def test_the_bundles_are_there() -> None:
    assert {"detection", "cell_cls", "swift_mil", "coloradv", "text_align"} <= set(NAMES)


def test_required_files(root: Path) -> None:
    wanted = [*(f"configs/{name}.json" for name in (*CONFIGS, "metadata")), "configs/logging.conf", "LICENSE"]
    assert [name for name in [*wanted, "docs/README.md", "models"] if not (root / name).exists()] == []
    assert "Apache License" in (root / "LICENSE").read_text()
    assert not list(root.rglob("*.py")), "the logic lives in the package"
    large = [path.name for path in root.rglob("*") if path.is_file() and path.stat().st_size > 25e6]
    assert not large, "larger files belong into large_files.yml"


def test_readme_has_its_sections(root: Path) -> None:
    headings = re.findall(r"^#+ (.+)$", (root / "docs" / "README.md").read_text(), re.MULTILINE)
    assert [section for section in SECTIONS if section not in headings] == []


def test_json_is_indented_by_four_and_names_classes_in_full(root: Path) -> None:
    for path in sorted((root / "configs").glob("*.json")):
        text = path.read_text()
        config = json.loads(text)
        assert text == json.dumps(config, indent=4, ensure_ascii="\\u" in text) + "\n", path.name
        for key, value in strings(config):
            if key == "_target_":
                assert "." in value, f"{path.name}: '{value}' is no full name"
                module = value.rpartition(".")[0]
                assert module.split(".")[0] in {"stride_monai", "monai", "torch", "ignite", "timm"}, value
            assert "import scripts" not in value


def test_metadata_meets_the_schema(root: Path, tmp_path: Path) -> None:
    meta = root / "configs" / "metadata.json"
    # MONAI downloads the schema only if the file is not there.
    monai.bundle.verify_metadata(meta_file=str(meta), filepath=str(SCHEMA))
    content = json.loads(meta.read_text())
    assert content["version"] in content["changelog"]
    assert "stride-monai" in content["required_packages_version"]
    assert content["schema"].endswith(SCHEMA.name)
    broken = tmp_path / "metadata.json"
    broken.write_text(json.dumps({**content, "version": "first"}))
    with pytest.raises(ValueError, match="'first'"):
        monai.bundle.verify_metadata(meta_file=str(broken), filepath=str(SCHEMA))


@pytest.mark.parametrize(("name", "other"), SAME_NETWORK.items())
def test_what_is_another_training_runs_as_the_other_does(name: str, other: str) -> None:
    """So that one export speaks for both."""
    one, two = (ROOT / "bundles" / bundle / "configs" for bundle in (name, other))
    assert (one / "inference.json").read_bytes() == (two / "inference.json").read_bytes()
    tiny, others = (json.loads((folder / "tiny.json").read_text()) for folder in (one, two))
    assert {key for key in tiny | others if tiny.get(key) != others.get(key)} <= {
        "iterations",
        "learning_rate",
        "init_weights",
    }
    formats = [json.loads((folder / "metadata.json").read_text())["network_data_format"] for folder in (one, two)]
    assert formats[0] == formats[1]


@OF_EACH_NETWORK
def test_network_takes_and_gives_what_the_metadata_says(root: Path) -> None:
    shape = EXPORT_SHAPE[root.name]
    monai.bundle.verify_net_in_out(
        net_id="network_def",
        meta_file=str(root / "configs" / "metadata.json"),
        config_file=files(root, "inference", "tiny"),
        device="cpu",
        **{
            "_meta_#network_data_format#inputs#image#num_channels": shape[1],
            "_meta_#network_data_format#inputs#image#spatial_shape": shape[2:],
        },
    )
    with pytest.raises(ValueError, match="77"):  # the check itself notices a wrong number of output channels
        monai.bundle.verify_net_in_out(
            net_id="network_def",
            meta_file=str(root / "configs" / "metadata.json"),
            config_file=files(root, "inference", "tiny"),
            device="cpu",
            **{
                "_meta_#network_data_format#inputs#image#num_channels": shape[1],
                "_meta_#network_data_format#inputs#image#spatial_shape": shape[2:],
                "_meta_#network_data_format#outputs#pred#num_channels": 77,
            },
        )


@pytest.fixture
def exported(root: Path, tmp_path: Path) -> tuple[torch.nn.Module, dict[str, Any]]:
    """A bundle's network with some weights, and the arguments of MONAI's exports, given as its README does."""
    configs = files(root, "inference", "tiny")
    parser = ConfigParser()
    parser.read_config(configs)
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def").eval()
    for name, value in network.named_buffers():
        if name in {"threshold", "encoder", "detector"}:  # what has to travel with the weights
            value.fill_(0.25 if name == "threshold" else 7)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    common = {"net_id": "network_def", "ckpt_file": str(tmp_path / "model.pt"), "config_file": configs}
    return network, {**common, "meta_file": str(root / "configs" / "metadata.json")}


def inputs_of(name: str) -> list[torch.Tensor]:
    """Of another batch size than the export's example; pictures in both types."""
    shape = [3, *EXPORT_SHAPE[name][1:]]
    generator = torch.Generator().manual_seed(1)
    if name == "text_align":
        return [torch.randn(shape, generator=generator)]
    whole = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return [whole.float() / 255, whole]


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::FutureWarning")
@OF_EACH_NETWORK
@pytest.mark.parametrize("use_trace", [False, True], ids=["script", "trace"])
def test_exports_to_torchscript(
    root: Path, use_trace: bool, exported: tuple[torch.nn.Module, dict[str, Any]], tmp_path: Path
) -> None:
    network, arguments = exported
    path, shape = str(tmp_path / "model.ts"), EXPORT_SHAPE[root.name]
    monai.bundle.ckpt_export(filepath=path, use_trace=use_trace, input_shape=shape, **arguments)
    loaded = torch.jit.load(path)
    state = loaded.state_dict()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=0, equal_nan=True, msg=name)
    with torch.no_grad():
        for given in inputs_of(root.name):
            found = loaded(given)
            torch.testing.assert_close(found, network(given), rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(found, loaded(inputs_of(root.name)[0]), rtol=1e-4, atol=1e-4)


def _reason(error: BaseException) -> str:
    return f"{error} {_reason(error.__cause__) if error.__cause__ else ''}"


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::FutureWarning")
@OF_EACH_NETWORK
def test_an_exported_network_runs_in_inference(
    root: Path, cohort: Path, exported: tuple[torch.nn.Module, dict[str, Any]], tmp_path: Path
) -> None:
    """uint8 crops and tiles through a trace of a float example; or a word on why its output is not enough."""
    _, arguments = exported
    export = str(tmp_path / "model.ts")
    monai.bundle.ckpt_export(filepath=export, use_trace=True, input_shape=EXPORT_SHAPE[root.name], **arguments)
    folder = cohort if root.name == "detection" else cohort / "bags"
    common = {"bundle_root": str(root), "dataset_dir": str(folder), **REDUCED[root.name]["inference"]}
    common |= {"logging_file": False, "config_file": arguments["config_file"], "weights": arguments["ckpt_file"]}
    program: dict[str, Any] = {"network_def": f"$torch.jit.load({export!r})"}
    if root.name != "swift_mil":
        program["load_weights#_disabled_"] = True
    if root.name not in {"detection", "cell_cls"}:
        with pytest.raises(Exception) as raised:  # noqa: PT011 (MONAI wraps it)
            monai.bundle.run(output_dir=str(tmp_path / "exported"), **common, **program)
        assert "exported to TorchScript has its output only" in _reason(raised.value)
        return
    for out, more in (("plain", {}), ("exported", program)):
        monai.bundle.run(output_dir=str(tmp_path / out), **common, **more)
    written = [path.relative_to(tmp_path / "plain") for path in (tmp_path / "plain").rglob("*") if path.is_file()]
    assert written
    for name in written:
        found, wanted = tmp_path / "exported" / name, tmp_path / "plain" / name
        assert found.read_bytes() == wanted.read_bytes(), name


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@OF_EACH_NETWORK
def test_exports_to_onnx_for_any_batch(
    root: Path, exported: tuple[torch.nn.Module, dict[str, Any]], tmp_path: Path
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    network, arguments = exported
    path = str(tmp_path / "model.onnx")
    names = {"input_names": ["image"], "output_names": ["pred"], "dynamic_axes": {"image": {0: "batch"}}}
    shape = [2, *EXPORT_SHAPE[root.name][1:]]
    monai.bundle.onnx_export(filepath=path, input_shape=shape, converter_kwargs=names, **arguments)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for given in (inputs_of(root.name)[0], inputs_of(root.name)[0][:1]):
        (found,) = session.run(None, {"image": given.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), network(given), rtol=1e-4, atol=1e-3)


def test_tiny_changes_numbers_and_names_only(root: Path) -> None:
    """Same code path: every key of the overlay is a key of a configuration that it lies over, and no class changes."""
    base = {
        key for name in ("train", "evaluate", "inference") for key in json.loads(Path(*files(root, name)).read_text())
    }
    tiny = json.loads(Path(*files(root, "tiny")).read_text())
    assert {key.split("#")[0] for key in tiny} - {"_over_"} <= base
    assert not [key for key, _ in strings(tiny) if key == "_target_" and root.name != "detection"]


@pytest.fixture
def overrides(root: Path, cohort: Path, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Reduced overrides of each configuration of a bundle."""
    out = {key: dict(value) for key, value in REDUCED[root.name].items()}
    for key, value in out.items():
        folder = cohort / "bags" if key == "inference" and root.name != "detection" else cohort
        value |= {"bundle_root": str(root), "dataset_dir": str(folder), "output_dir": str(tmp_path / key)}
        if key != "train":
            value["weights"] = str(tmp_path / "train" / "model.pt")
    return out


@pytest.mark.parametrize("kind", ["train", "inference"])
def test_properties(root: Path, kind: str, overrides: dict[str, dict[str, Any]]) -> None:
    workflow = ConfigWorkflow(files(root, kind, "tiny"), workflow_type=kind, logging_file=False, **overrides[kind])
    workflow.initialize()
    assert workflow.check_properties() == []
    if kind == "train":
        trainer = workflow.trainer
        assert trainer.state.max_epochs == 1
        schedules = {"cell_cls": "lr_scheduler#total_iters", "detection": "decay#total_iters", "text_align": ""}
        schedule = schedules.get(root.name, "lr_scheduler#total_iters")
        assert not schedule or workflow.parser.get_parsed_content(schedule) == trainer.state.epoch_length


def command_line(overrides: dict[str, Any]) -> list[str]:
    return [part for key, value in overrides.items() for part in (f"--{key}", str(value))]


def start(command: list[str], cwd: Path) -> str:
    environment = {**os.environ, **SEES_TRACKER, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return succeeded(
        subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, check=False, timeout=300)
    )


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    """All that it said."""
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return done.stdout + done.stderr


def warned(log: str) -> list[str]:
    """Lines of a log that warn, but for what holds: a configuration is code; two processes on CPUs are slower and have
    batch normalisations of their own."""
    known = ("parsing config_file", "Grad strides do not match bucket view", "it can be synchronised on CUDA only")
    lines = [line for line in log.splitlines() if "warn" in line.lower()]
    return [line for line in lines if not any(text in line for text in known)]


@pytest.mark.slow
def test_trains_evaluates_and_infers(
    root: Path,
    overrides: dict[str, dict[str, Any]],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    recwarn: pytest.WarningsRecorder,
) -> None:
    """On ``--device cpu``, with an experiment tracker as ``--tracking mlflow`` sets it up."""
    aside = tmp_path_factory.mktemp("tracking")
    common = {"device": "cpu", "tracking": str(tracker.settings(aside))}
    for given in overrides.values():
        given |= common
    tiny = files(root, "train", "tiny")
    arguments = ["run", "--config_file", str(tiny), *command_line(overrides["train"])]
    if root.name == "cell_cls":  # the command itself, once
        log = start([sys.executable, "-m", "monai.bundle", *arguments], cwd=tmp_path)
    else:
        log = succeeded(processes.run("monai.bundle", arguments, cwd=tmp_path, environment=SEES_TRACKER))
    assert warned(log) == []
    assert (tmp_path / "train" / "model.pt").is_file()
    assert list((tmp_path / "train").glob("events.out.tfevents.*")), "TensorBoard has something to show"
    torch.load(tmp_path / "train" / "model.pt", weights_only=True)
    monai.bundle.run(config_file=[*tiny, *files(root, "evaluate")], logging_file=False, **overrides["evaluate"])
    metrics = dict(line.split(",") for line in (tmp_path / "evaluate" / "metrics.csv").read_text().splitlines())
    assert metrics
    assert all(-1 <= float(value) <= 1 for value in metrics.values())
    monai.bundle.run(config_file=files(root, "inference", "tiny"), logging_file=False, **overrides["inference"])
    written = {path.name for path in (tmp_path / "inference").rglob("*") if path.is_file()}
    expected = {
        "detection": {"test-NILM.bag.arrow", "test-HSIL.bag.arrow"},
        "cell_cls": {"test-NILM.cells.csv", "train-HSIL.cells.csv"},
        "swift_mil": {"summary.csv", "findings.json", "report.html"},
        "coloradv": {"summary.csv", "findings.json", "report.html"},
        "text_align": {"test-NILM.descriptions.json", "train-HSIL.descriptions.json"},
    }
    assert expected[root.name] <= written
    assert {path.name for path in tmp_path.iterdir()} == {"train", "evaluate", "inference"}, "nothing beside output_dir"
    kept = [json.loads(line) for line in (aside / "kept").read_text().splitlines()]
    assert any("train_loss" in line for line in kept)
    assert any(set(metrics) <= set(line) for line in kept), "what an evaluation finds is tracked"
    saved = [path for line in kept for path in line.get("artifacts", ())]
    assert len(saved) == 2, "the configurations of training and inference"
    assert [str(w.message) for w in recwarn if "parsing config_file" not in str(w.message)] == []


@pytest.mark.slow
def test_trains_in_two_processes(root: Path, overrides: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """As the model zoo's own helper does: the overrides go into one exported configuration, which torchrun runs."""
    whole = ConfigParser()
    whole.read_config(files(root, "train", "tiny", "multi_gpu_train"))
    whole.update(pairs=overrides["train"])
    exported = tmp_path / "exported.json"
    ConfigParser.export_config_file(whole.config, str(exported), indent=4)
    arguments = ["run", "--config_file", str(exported)]
    arguments += [
        "--meta_file",
        str(root / "configs/metadata.json"),
        "--logging_file",
        str(root / "configs/logging.conf"),
    ]
    if root.name == "swift_mil":  # the launcher itself, once
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nnodes", "1"]
        log = start([*launch, "--nproc_per_node", "2", "-m", "monai.bundle", *arguments], cwd=tmp_path)
    else:
        log = succeeded(processes.run_ranks(2, "monai.bundle", arguments, cwd=tmp_path))
    assert warned(log) == []
    assert (tmp_path / "train" / "model.pt").is_file()
    assert len(re.findall(r"Epoch: 1/\d+, Iter: 1/", log)) == 1, "one process speaks for both"


def test_copies_work_away_from_the_checkout(root: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "elsewhere" / root.name))
    parser = ConfigParser()
    parser.read_config(files(copy, "inference", "tiny"))
    parser["bundle_root"] = str(copy)
    assert parser.get_parsed_content("weights") == str(copy / "models" / "tiny.safetensors")
