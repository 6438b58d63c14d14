"""The few names of ``import stride_monai as sm``."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from toy_bundles import screening_home

import stride_monai as sm
from stride_monai.errors import BundleError, ConfigError, SlideError
from stride_monai.networks import SlideClassifier
from stride_monai.screening.screener import Screener


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return screening_home(tmp_path_factory.mktemp("home"))


def test_the_names_are_these_and_come_when_they_are_used() -> None:
    names = [
        "Findings",
        "Screener",
        "ScreeningConfig",
        "__version__",
        "classify",
        "list_bundles",
        "load_bundle",
        "open_slide",
        "screen",
    ]
    assert sorted(sm.__all__) == names
    assert all(getattr(sm, name) for name in names)
    use = "sm.ScreeningConfig(), sm.list_bundles()"
    code = f"import sys, stride_monai as sm; {use}; print({{'torch', 'monai'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_bundles_are_listed_and_loaded_with_their_facts(tmp_path: Path) -> None:
    facts = {bundle.name: bundle for bundle in sm.list_bundles()}
    loaded = sm.load_bundle("swift_mil")
    assert isinstance(loaded.network, SlideClassifier)
    assert not loaded.network.training
    assert [file.name for file in loaded.files] == ["tiny.safetensors"]
    assert loaded.numbers["crop_px"] > 0
    assert loaded.metadata["bundle_version"] == facts["swift_mil"].version
    assert sm.load_bundle(facts["swift_mil"].root).weights_sha256 == loaded.weights_sha256
    with pytest.raises(BundleError, match="unknown bundle 'swift'"):
        sm.load_bundle("swift")


def test_a_slide_in_one_call_with_and_without_files(home: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"bundles": home, "profile": "paper", "mpp": 0.5, "device": "cpu"}
    found = sm.screen(home / "one.png", **options)
    assert isinstance(found, sm.Findings)
    asked, used = found.provenance.requested, found.provenance.used
    assert asked["mpp"] == used["mpp"] == 0.5
    assert asked.keys() == {one.name for one in dataclasses.fields(sm.ScreeningConfig)} <= used.keys(), "none is lost"
    assert used["weights"] == {name: ["model.safetensors"] for name in used["weights_sha256"]}
    assert found.provenance.weights == used["weights_sha256"]
    assert asked["bundles"] == used["bundles"] == home.name, "folders go by their names alone"
    assert str(home) not in found.to_json()
    assert not list(tmp_path.iterdir())
    written = sm.screen(home / "one.png", out=tmp_path / "out", **options)
    assert written.to_json() == found.to_json() == (tmp_path / "out" / "one" / "findings.json").read_text()
    assert (tmp_path / "out" / "one" / "report.html").is_file()


@pytest.mark.parametrize("out", [None, "out"])
def test_a_slide_that_fails_is_one_clear_error(home: Path, tmp_path: Path, out: str | None) -> None:
    (tmp_path / "broken.png").write_bytes((home / "one.png").read_bytes()[:200])
    options: dict[str, Any] = {"bundles": home, "profile": "paper", "mpp": 0.5, "out": out and tmp_path / out}
    with pytest.raises(SlideError, match=r"broken\.png"):
        sm.screen(tmp_path / "broken.png", **options)
    with pytest.raises(SlideError, match=r"absent\.svs: no such file"):
        sm.screen(tmp_path / "absent.svs", **options)


def test_a_defect_is_an_error_of_the_slide(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(Screener, "screen", defect)
    with pytest.raises(SlideError, match=r"one\.png: unexpected ZeroDivisionError: by zero: please report it"):
        sm.screen(home / "one.png", bundles=home, profile="paper", mpp=0.5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mpp": float("nan")}, "invalid mpp nan"),
        ({"mpp": -1.0}, "invalid mpp -1"),
        ({"image": 0}, "invalid image 0"),
        ({"candidates": 0, "rerank": True}, "invalid candidates 0"),
        ({"candidates": 9, "rerank": False}, "--candidates is about re-ranking"),
        ({"profile": "tinny"}, "unknown profile 'tinny': did you mean tiny"),
        ({"classifier": "swift"}, "unknown slide classifier 'swift': did you mean swift_mil"),
        ({"reader": "openslid"}, "unknown reader 'openslid': did you mean openslide"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"weights": {"detector": "model.pt"}}, "unknown stage of --weights 'detector'"),
    ],
)
def test_an_invalid_value_is_refused_by_the_name_of_its_option(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        sm.ScreeningConfig(**options)
    assert str(caught.value).startswith(says)
