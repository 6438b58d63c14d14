"""What is typed after ``python -m monai.bundle`` arrives: MONAI's command line takes every value for Python."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import fire
import fire.core
import fire.inspectutils
import monai.bundle
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser

from stride_monai.errors import ConfigError
from stride_monai.workflows.locate import bundle_root
from stride_monai.workflows.typed import typed_options
from stride_monai.workflows.values import kind_of
from stride_monai.workflows.workflow import StrideWorkflow

SEEN: list[dict[str, Any]] = []
CONFIG = {
    "imports": ["$import sys", "$import os"],
    "bundle_root": ".",
    "dataset_dir": "$@bundle_root + '/data'",
    "bag_dir": "$@dataset_dir + '/bags'",
    "cell_dir": "@dataset_dir",
    "output_dir": "out",
    "weights": ["$@bundle_root + '/a.pt'", "$@bundle_root + '/b.pt'"],
    "device": "$torch.device('cpu')",
    "part": {"_target_": "pathlib.PurePosixPath", "_mode_": "callable", "inner": {"path": "x"}},
    "copied": ["%part"],
    "count": 3,
    "rate": 0.5,
    "twice": "$2 * @count",
    "fast": True,
    "spaces": ["rgb", "hsv"],
    "nothing": None,
    "initialize": [{"_target_": "stride_monai.workflows.check_overrides"}],
    "run": [f"$sys.modules[{__name__!r}].SEEN.append(dict(@all))"],
    "all": {
        key: f"@{key}"
        for key in (
            *("dataset_dir", "bag_dir", "cell_dir", "output_dir", "weights", "device", "part::inner::path"),
            *("copied::0::inner::path", "count", "rate", "twice", "fast", "spaces", "nothing"),
        )
    },
}
WAYS = ("run", "run_workflow")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundle")
    (root / "configs").mkdir()
    (root / "configs" / "metadata.json").write_text('{"version": "1"}')
    (root / "configs" / "train.json").write_text(json.dumps(CONFIG))
    return root


@pytest.fixture(params=WAYS)
def typed(request: pytest.FixtureRequest, home: Path) -> Callable[..., dict[str, Any]]:
    """Run the little bundle as its command would; gives the values that arrived."""

    def run(*words: str) -> dict[str, Any]:
        return command(home, request.param, *words)

    return run


def command(root: Path, way: str, *words: str) -> dict[str, Any]:
    options = ["--logging_file", "False", "--bundle_root", str(root)]
    if way == "run_workflow":
        options += ["--workflow_name", "stride_monai.workflows.StrideWorkflow"]
    if "--config_file" not in words:
        options += ["--config_file", str(root / "configs" / "train.json")]
    line = [way, *options, *words]
    program = str(Path(monai.bundle.__file__).parent / "__main__.py")
    with mock.patch.object(sys, "argv", [program, *line]), mock.patch.object(sys, "excepthook"):
        fire.Fire({"run": monai.bundle.run, "run_workflow": monai.bundle.run_workflow}, command=line)
    return SEEN.pop()


EATEN = [
    *("cohort#2", "#", "a # b", "2024_05", "1e3", "0x10", "0b1", "None", "True", "False", "[a]", "(a,b)", "{a:1}"),
    *('"quoted"', "'quoted'", "a,b", "007", "5", "-5", "+5", "1_000", ".5", "5.", "1j", "inf", "a b", " a", "ä/ö#1"),
    *("~", "~/x", "a\\", "C:\\x#1\\", "a::b", "a=b", "a--b", "b'x'", "r'x'", "1,2", "()", "[]", "{}", "...", "x@y#z"),
    *("[2024] cohort", "a'b\"c#d", "a%::b", "u'x'", "{'a': 1}", "5 # kept", "\u4e2d\u6587#2", "a\nb#c", "nan", "!#"),
]


@pytest.mark.parametrize("text", EATEN)
@pytest.mark.parametrize("way", WAYS)
def test_texts_arrive_as_typed(home: Path, way: str, text: str) -> None:
    found = command(home, way, f"--dataset_dir={text}", f"--output_dir={text}", f"--part#inner#path={text}")
    assert found["dataset_dir"] == found["output_dir"] == found["cell_dir"] == found["part::inner::path"] == text
    assert found["bag_dir"] == text + "/bags"


letters = st.characters(codec="utf-8", exclude_characters="\0")
names = st.text(st.one_of(st.sampled_from("#_-.,:;[](){}'\"\\/ ~=+@%$5ae"), letters), min_size=1, max_size=12)


@given(text=names, apart=st.booleans(), sep=st.sampled_from(["#", "::"]), way=st.sampled_from(WAYS))
@example(text="cohort#2", apart=True, sep="::", way="run")
@settings(max_examples=60, deadline=None)
def test_any_text_arrives_as_typed_or_is_refused(home: Path, text: str, apart: bool, sep: str, way: str) -> None:
    """``$``, ``@`` and ``%`` at the beginning are MONAI's language; what looks like an option needs ``=``."""
    if text[0] in "$@%":
        return
    apart = apart and not text.startswith("-")
    key = f"--part{sep}inner{sep}path"
    words = [key, text, "--output_dir", text] if apart else [f"{key}={text}", f"--output_dir={text}"]
    found = command(home, way, *words)
    assert found["part::inner::path"] == found["output_dir"] == text


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--count", "5"], "count", 5),
        (["--count", "1e3"], "count", 1000),
        (["--count", "1_000"], "count", 1000),
        (["--count", "-5"], "count", -5),
        (["--rate=None"], "rate", None),
        (["--twice", "5"], "twice", 5),
        (["--rate", "1e-3"], "rate", 1e-3),
        (["--rate", "2"], "rate", 2),
        (["--fast", "false"], "fast", False),
        (["--fast", "0"], "fast", False),
        (["--fast=True"], "fast", True),
        (["--fast"], "fast", True),
        (["--nofast"], "fast", False),
        (["--spaces", "[hsv]"], "spaces", ["hsv"]),
        (["--spaces", "['a#b']"], "spaces", ["a#b"]),
        (["--weights", "['a#b.pt','c.pt']"], "weights", ["a#b.pt", "c.pt"]),
        (["--weights", "a#b.pt"], "weights", "a#b.pt"),
        (["--nothing", "2.5"], "nothing", 2.5),
        (["--nothing", "plain"], "nothing", "plain"),
        (["--nothing", '"1e3"'], "nothing", "1e3"),
        (["--nothing=None"], "nothing", None),
        (["--device", "cpu"], "device", "cpu"),
        (["--output_dir", "first", "--output_dir", "last#1"], "output_dir", "last#1"),
        (["--output-dir", "a#b"], "output_dir", "a#b"),
        (["--output_dir", "a#b", "--", "--verbose"], "output_dir", "a#b"),
        (["--dataset_dir", "$@output_dir + '/x'"], "dataset_dir", "out/x"),
        (["--dataset_dir", "@output_dir"], "dataset_dir", "out"),
    ],
)
def test_other_kinds_arrive_as_what_they_are(
    typed: Callable[..., dict[str, Any]], words: list[str], name: str, value: object
) -> None:
    found = typed(*words)[name]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--count", "007"], "--count 007.*a number"),
        (["--count", "5 # or 6"], "--count 5 # or 6.*a number"),
        (["--count", "True"], "--count True.*a number"),
        (["--count", "many"], "--count many.*a number"),
        (["--twice", "[1]"], "--twice .*a number"),
        (["--fast", "maybe"], "--fast maybe.*True or False"),
        (["--fast", "2"], "--fast 2.*True or False"),
        (["--spaces", "rgb"], "--spaces rgb.*a list"),
        (["--spaces", "[rgb#1]"], "--spaces .*a list"),
        (["--spaces", "[2024_05]"], "--spaces .*a list"),
        (["--spaces", "[a, 1]#b"], "--spaces .*a list"),
        (["--part", "x#y"], "--part x#y.*a component: .*--part#_disabled_ True"),
        (["--nothing", "2024_05"], "--nothing 2024_05.*two ways"),
        (["--nothing", "1e3"], "--nothing 1e3.*two ways"),
        (["--nothing", "a#b"], "--nothing a#b.*two ways"),
        (["--nothing", "[1e3]"], "--nothing .*two ways"),
        (["--output_dir"], "--output_dir' has no value"),
        (["--output_dir", "--count", "3"], "--output_dir' has no value"),
        (["--output_dir", "-x"], "unknown option '--x'"),
        (["--output_dir", "-"], "'--output_dir -' is not a value"),
        (["--outputdir", "None"], "did you mean '--output_dir'"),
        (["--device", "gpu"], "unknown device 'gpu'"),
        (["--device", "cuda:99"], "unknown device 'cuda:99'"),
    ],
)
def test_what_is_not_clear_is_refused_by_name(
    typed: Callable[..., dict[str, Any]], words: list[str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        typed(*words)
    assert not SEEN


def test_options_of_monai_itself(home: Path, tmp_path: Path) -> None:
    """They are read before any bundle can help; what MONAI got wrong is said, or put right by the workflow."""
    eaten = home / "configs#2"
    eaten.mkdir(exist_ok=True)
    for name in ("train.json", "metadata.json"):
        (eaten / name).write_bytes((home / "configs" / name).read_bytes())
    arguments = tmp_path / "arguments.json"
    arguments.write_text(json.dumps({"dataset_dir": "from#file", "output_dir": "lost", "count": 7}))
    with pytest.raises(ConfigError, match="MONAI reads '--final_id end#1' as 'end'"):
        command(home, "run", "--final_id", "end#1")
    for way in WAYS:
        found = command(home, way, "--args_file", str(arguments), "--output_dir", "None")
        assert (found["dataset_dir"], found["output_dir"], found["count"]) == ("from#file", "None", 7)
        assert command(home, way, "--config_file", f"['{eaten}/train.json']", "--run_id", "'run'")["count"] == 3
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        assert command(home, "run_workflow", "--config_file", "configs#2/train.json")["count"] == 3


@pytest.mark.parametrize("way", WAYS)
def test_what_a_list_names_by_a_macro_is_what_was_typed(home: Path, way: str) -> None:
    found = command(home, way, "--part#inner#path", "a#b")
    assert found["copied::0::inner::path"] == found["part::inner::path"] == "a#b"


def test_from_python_a_hash_arrives_too(home: Path) -> None:
    """MONAI replaces '#' by '::' in every text of a configuration."""
    config = str(home / "configs" / "train.json")
    given: dict[str, Any] = {"bundle_root": str(home), "dataset_dir": "a#b"}
    monai.bundle.run(config_file=config, logging_file=False, **given)
    workflow = StrideWorkflow(config_file=config, logging_file=False, **given, weights=["x#1", "y"])
    workflow.initialize()
    workflow.run()
    assert SEEN.pop()["weights"] == ["x#1", "y"]
    assert SEEN.pop()["bag_dir"] == "a#b/bags"
    with pytest.raises(ConfigError, match=r"dataset_dir 'a::b'.*StrideWorkflow"):
        monai.bundle.ConfigWorkflow(config, logging_file=False, **given).initialize()
    with pytest.raises(ConfigError, match=r"weights#0 'x::1'.*StrideWorkflow"):
        monai.bundle.run(config_file=config, logging_file=False, **{**given, "weights": ["x#1", "y"]})


def test_what_tracking_saves_is_what_was_typed(home: Path, tmp_path: Path) -> None:
    settings = tmp_path / "tracking.json"
    settings.write_text(json.dumps({"handlers_id": {}, "configs": {"note": "own", "save_execute_config": True}}))
    for way in WAYS:
        out = tmp_path / way / "out#2"
        command(home, way, "--tracking", str(settings), "--output_dir", str(out), "--dataset_dir", "None")
        (saved,) = (tmp_path / way).rglob("config_*.json")
        assert saved.parent == out
        parser = ConfigParser()
        parser.read_config(str(saved))
        assert parser.get_parsed_content("dataset_dir") == "None"
        assert parser.get_parsed_content("output_dir") == str(out)
        assert parser.get_parsed_content("save_execute_config") == str(saved)
        assert command(home, way, "--config_file", str(saved))["output_dir"] == str(out), "it runs again"


WORDS = st.sampled_from(
    ["a", "1", "-5", "x#y", "--a", "--b=1", "--c#d", "--no", "--node", "-x", "--e-f", "--g=", "-h=2", "", "=", "a=b"]
)


@given(st.lists(WORDS, max_size=8))
def test_the_command_line_is_split_as_by_python_fire(words: Sequence[str]) -> None:
    def any_options(**options: object) -> None: ...

    spec = fire.inspectutils.GetFullArgSpec(any_options)
    expected, _, _ = fire.core._ParseKeywordArgs(list(words), spec)
    found = {name: "True" if text is None else text for name, text in typed_options(["run", *words]).items()}
    assert found == expected


def test_kinds_of_the_bundles_options() -> None:
    kinds = {
        "text": [
            "dataset_dir",
            "output_dir",
            "bundle_root",
            "bag_dir",
            "cell_dir",
            "weights",
            "init_weights",
            "resume",
        ],
        "a number": ["max_epochs", "top_k", "learning_rate", "epoch_length", "optimizer#lr", "optimizer#eps"],
        "True or False": ["amp", "allow_missing", "use_amp", "optimizer#amsgrad"],
        "a component": ["optimizer", "train#dataset"],
    }
    kinds["text"] += ["resume", "device", "head", "save_state#save_dir", "encoder_name"]
    known = ConfigParser.load_config_files(
        [str(bundle_root("swift_mil") / "configs" / f"{name}.json") for name in ("train", "tiny")]
    )
    found = {name: kind_of(name, known) for names in kinds.values() for name in names}
    assert found == {name: kind for kind, names in kinds.items() for name in names}
