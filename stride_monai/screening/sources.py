"""Where the network of each stage comes from: named weights, a bundle of the user's, or what came with the package.

``--weights detection=FILE`` names the weights of a stage. ``--bundles DIR`` names a folder with bundles of the user's
own; it may hold some of them only. What neither names is what came with the package, and the findings say so. Nothing
heavy is imported before weights are looked up in a bundle's configuration: a wrong word is refused at once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stride_monai.errors import BundleError, ConfigError
from stride_monai.screening.choices import CLASSIFIERS, choose_detector, find_bundle
from stride_monai.screening.options import Options
from stride_monai.slides.readers.registry import READERS
from stride_monai.weights_files import kind_of_weights
from stride_monai.workflows.locate import bundle_root

__all__ = ["PROFILES", "STAGES", "Origin", "Source", "Sources", "check_options", "parse_weights"]

STAGES = ("detection", "cell_cls", "swift_mil", "coloradv", "text_align")
"""The stages that have weights, by the names of their bundles."""

PROFILES = ("tiny", "paper")
_MODEL = "model.pt"
_DEVICES = r"auto|(cpu|cuda|mps|xpu|hpu)(:\d+)?"
"""Of PyTorch's, those that may compute; whether one is there, PyTorch knows."""


class Origin(NamedTuple):
    """Where weights were taken from.

    Attributes:
        how: ``given`` (by ``--weights``), ``own bundle`` or ``shipped``.
        files: the weights files: one, or a base and files of what differs.
    """

    how: str
    files: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """For the findings, which know no folders."""
        return {"from": self.how, "files": [path.name for path in self.files]}


class Source(NamedTuple):
    """Of one stage: its bundle, and its weights where they were named.

    Attributes:
        name: of the bundle.
        home: folder of the bundle.
        own: it is one of the user's.
        given: the weights files that were named; none for those that the bundle names.
    """

    name: str
    home: Path
    own: bool = False
    given: tuple[Path, ...] = ()

    @property
    def how(self) -> str:
        """As :class:`Origin` says it."""
        return "given" if self.given else "own bundle" if self.own else "shipped"

    def files(self, profile: str, overlays: Sequence[str] = ()) -> list[Path]:
        """The weights files to load, whether they are there or not.

        In a bundle of the user's, ``models/model.pt``, which training writes, stands in for a file that the
        configuration names and that is not there.

        Raises:
            BundleError: the bundle cannot be read, or it has both and which is meant is not clear.
        """
        if self.given:
            return list(self.given)
        from stride_monai.workflows.workflow import bundle_weights

        named = bundle_weights(self.home, profile, overlays)
        trained = self.home / "models" / _MODEL
        if not self.own or not trained.is_file() or trained.absolute() in [path.absolute() for path in named]:
            return named
        if all(path.is_file() for path in named):
            raise BundleError(
                f"{trained.parent.absolute()} has {named[-1].name}, which its configuration names, and {_MODEL}, which "
                "training writes",
                f"say which: --weights {self.name}={trained} or --weights {self.name}={named[-1]}",
            )
        return [trained]

    def lacks(self, profile: str, overlays: Sequence[str] = ()) -> str:
        """Why it cannot be used as it stands, in words; empty where all its weights files are there."""
        absent = [path.name for path in self.files(profile, overlays) if not path.is_file()]
        return f"the bundle {self.name} has no weights {absent[0]}" if absent else ""


class Sources:
    """Where the network of each stage comes from.

    Args:
        bundles: folder with bundles of the user's; None for none.
        weights: by stage the weights files that were named.

    Raises:
        BundleError: there is no such folder, it holds no bundle, or a folder in it has a bundle's name and is none.
        ConfigError: there is no such stage.
    """

    def __init__(self, bundles: Path | None, weights: Mapping[str, Sequence[Path]] | None = None) -> None:
        self.bundles, self.weights = bundles, {name: tuple(files) for name, files in (weights or {}).items()}
        for name in self.weights:
            _check_stage(name)
        if bundles is not None:
            _check_bundles(bundles)

    def __getitem__(self, name: str) -> Source:
        given = self.weights.get(name, ())
        shipped = bundle_root(name)
        own = None if self.bundles is None else find_bundle(name, self.bundles)
        if own is None:
            return Source(name, shipped, given=given)
        return Source(name, own, own.resolve() != shipped.resolve(), given)


def _check_stage(name: str) -> None:
    if name not in STAGES:
        near = difflib.get_close_matches(name, STAGES, n=1)
        advice = f"did you mean {near[0]}?" if near else f"use one of {', '.join(STAGES)}"
        raise ConfigError(f"there is no stage '{name}' that takes weights", advice)


def _check_bundles(folder: Path) -> None:
    full = folder.absolute()
    if not folder.is_dir():
        raise BundleError(f"there is no folder {full}", "name a folder with bundles in it")
    for name in STAGES:
        if (folder / name).is_dir() and not (folder / name / "configs" / "inference.json").is_file():
            found = [file for file in (folder / name / "models" / _MODEL, folder / name / _MODEL) if file.is_file()]
            file = found[0] if found else "FILE"
            raise BundleError(
                f"{full / name} is no bundle: it has no configs/inference.json",
                f"name its weights by --weights {name}={file}, or make a bundle: stride-monai bundle copy {name}",
            )
    if any(find_bundle(name, folder) for name in STAGES):
        return
    if (folder / "configs" / "inference.json").is_file():
        raise BundleError(f"{full} is itself a bundle", f"name the folder in which it lies, {full.parent}")
    raise BundleError(
        f"{full} holds no bundle",
        f"name a folder with some of {', '.join(STAGES)}; for weights alone there is --weights STAGE=FILE of screen",
    )


def parse_weights(given: Sequence[str]) -> dict[str, tuple[Path, ...]]:
    """The weights files of each stage from texts like ``detection=FILE``.

    A stage that comes again gets a base and a file of what differs from it, in that order.

    Raises:
        ConfigError: a text is of another form, or there is no such stage.
    """
    found: dict[str, tuple[Path, ...]] = {}
    for text in given:
        name, sign, file = (part.strip() for part in text.partition("="))
        if not (sign and name and file):
            raise ConfigError(f"--weights {text} names no stage and file", "e.g. --weights detection=out/model.pt")
        _check_stage(name)
        found[name] = (*found.get(name, ()), Path(file).expanduser())  # the shell leaves a ~ after = as it is
    return found


def check_options(options: Options) -> None:
    """Refuse, before anything heavy is imported, names that do not exist, files that are no weights, contradictions.

    Raises:
        BundleError, ConfigError: with the option that is wrong and the way out.
    """
    if options.profile not in PROFILES:
        raise ConfigError(f"there is no profile '{options.profile}'", f"use {' or '.join(PROFILES)}")
    READERS.check(options.reader)
    if re.fullmatch(_DEVICES, options.device) is None:
        raise ConfigError(f"'{options.device}' is no device", "use auto, cpu or cuda")
    sources = Sources(options.bundles, options.weights)
    _check_contradictions(options)
    for files in sources.weights.values():
        for file in files:
            kind_of_weights(file)
    if options.rerank is not None and options.rerank.source != "cell_cls":
        again = Path(options.rerank.source)
        if not again.is_dir():
            kind_of_weights(again)
    choose_detector(options.detector, options.profile, sources["detection"].home)
    if options.classifier not in {"auto", *CLASSIFIERS}:
        raise ConfigError(
            f"there is no slide classifier '{options.classifier}'", f"use auto, {' or '.join(CLASSIFIERS)}"
        )


def _check_contradictions(options: Options) -> None:
    deciding = [name for name in CLASSIFIERS if name in options.weights]
    unused = [name for name in deciding if options.classifier not in {"auto", name}]
    if options.classifier == "auto" and len(deciding) > 1:
        raise ConfigError(
            f"--weights names {' and '.join(deciding)}, one of which decides",
            f"say which: --classifier {deciding[0]} or {deciding[1]}, and leave the other's weights out",
        )
    if unused:
        raise ConfigError(
            f"--weights {unused[0]} is not used by --classifier {options.classifier}", "leave one of the two out"
        )
    if "cell_cls" in options.weights:
        if options.rerank is None:
            raise ConfigError("--weights cell_cls is about re-ranking", "add --rerank, or leave it out")
        if options.rerank.source != "cell_cls":
            raise ConfigError("--reranker and --weights cell_cls both say what re-ranks", "leave one of the two out")
    if "text_align" in options.weights and options.descriptions is False:
        raise ConfigError("--weights text_align is not used by --no-descriptions", "leave one of the two out")
