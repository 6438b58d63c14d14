"""Where the network of each stage comes from: named weights, a bundle of the user's, or what came with the package.

``--weights detection=FILE`` names the weights of a stage. ``--bundles DIR`` names a folder with bundles of the user's
own; it may hold some of them only. What neither names is what came with the package, and the findings say so. Nothing
heavy is imported before weights are looked up in a bundle's configuration: a wrong word is refused at once.

``yolo`` is the detector of the paper, which the configurations of the bundle ``detection`` name. Any other is an
overlay of that bundle with a ``network_def`` of its own, and its file name is its name. With a profile goes the overlay
``<profile>_<detector>.json`` where a bundle has one: its weights and small numbers.

Slide classifiers are bundles: ``coloradv`` is ``swift_mil`` trained on against colours, and the default once trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from stride_monai.errors import BundleError, check_name
from stride_monai.findings import Described
from stride_monai.operating_point import read_operating_point
from stride_monai.screening.config import STAGES, ScreeningConfig
from stride_monai.screening.source import MODEL, PAPER, Source
from stride_monai.weights_files import kind_of_weights
from stride_monai.workflows.locate import bundle_root

if TYPE_CHECKING:
    import torch

    from stride_monai.workflows.load import LoadedBundle

__all__ = ["About", "BundleStore", "Choice", "Chosen", "Origin", "check_config"]

_FREE = "fcos"


class Choice(NamedTuple):
    """What was chosen, by name, and in words why."""

    name: str
    why: str


class Chosen(NamedTuple):
    """A choice and its network.

    Attributes:
        how: where its weights were taken from, see :class:`Origin`.
    """

    choice: Choice
    bundle: LoadedBundle
    how: str = "own bundle"


class Origin(NamedTuple):
    """Where weights were taken from.

    Attributes:
        how: ``given`` (by ``--weights``), ``own bundle`` or ``shipped``.
        files: the weights files: one, or a base and files of what differs.
    """

    how: str
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class About:
    """What screens, without the networks: for people, for ``run.json``, and for a process that has none loaded.

    Attributes:
        detector: None where cells come from bag files.
        descriptions: whether cells are described, and why.
        weights: SHA-256 of each bundle's weights file; ``origins`` where they were taken from.
        note: see :class:`~stride_monai.screening.Models`.
        holds: whether the threshold holds for these cells, so that calls are made.
        operating_point: in words the file that decides; empty where the threshold in the weights does.
        runtime: in words what computes detector and cell encoder.
        reranked: the name of what re-ranks, the cells that it keeps, and of how many; None without.
    """

    detector: Choice | None
    classifier: Choice
    descriptions: Described
    weights: Mapping[str, str]
    note: str
    holds: bool
    reranked: tuple[str, int, int] | None = None
    origins: Mapping[str, Origin] = field(default_factory=dict)
    operating_point: str = ""
    runtime: str = ""

    def info(self) -> dict[str, object]:
        """For ``run.json``."""
        return {
            "detector": None if self.detector is None else self.detector._asdict(),
            "classifier": self.classifier._asdict(),
            "descriptions": self.descriptions.to_dict(),
            "operating_point": self.operating_point or None,
            "runtime": self.runtime or None,
            "weights": dict(self.weights),
            "weights_from": {
                name: {"from": origin.how, "files": [str(file.absolute()) for file in origin.files]}
                for name, origin in self.origins.items()
            },
        }


class Asked(Protocol):
    """Of a configuration, what says where networks come from."""

    @property
    def bundles(self) -> Path | None: ...
    @property
    def profile(self) -> str: ...
    @property
    def weights(self) -> Mapping[str, Sequence[Path]]: ...


@dataclass(frozen=True, slots=True)
class BundleStore:
    """Where the network of each stage comes from, and where it goes.

    Attributes:
        bundles: folder with bundles of the user's; None for none.
        profile: ``tiny`` or ``paper``.
        weights: by stage the weights files that were named.
    """

    bundles: Path | None = None
    profile: str = "tiny"
    weights: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    device: torch.device | str = "cpu"

    @classmethod
    def of(cls, config: Asked, device: torch.device | str = "cpu") -> Self:
        """The store that a configuration asks for.

        Raises:
            BundleError: there is no such folder, it holds no bundle, or a folder in it has a bundle's name and is none.
        """
        if config.bundles is not None:
            _check_bundles(config.bundles)
        return cls(config.bundles, config.profile, config.weights, device)

    def __getitem__(self, name: str) -> Source:
        given = tuple(self.weights.get(name, ()))
        shipped = bundle_root(name)
        own = None if self.bundles is None else self.bundles / name
        if own is None or not _is_bundle(own):
            return Source(name, shipped, self.profile, given=given)
        return Source(name, own, self.profile, own.resolve() != shipped.resolve(), given)

    def load(self, source: Source | str, detector: str = "") -> LoadedBundle:
        """The network of a stage with its weights.

        Args:
            source: the stage, or another source for it.
            detector: of whose overlays the bundle takes those that it has.

        Raises:
            BundleError: the weights are missing or do not fit; the message says what they seem to be and what to do.
        """
        from stride_monai.screening.recognize import load_source

        return load_source(self[source] if isinstance(source, str) else source, self.device, detector)

    def choose_detector(self, name: str = "auto") -> Choice:
        """The detector of that name.

        ``auto`` is that of the paper; in the tiny profile it is the one that needs no extra, so that a slide gets
        the same result whatever is installed, and whose cells the shipped slide head was trained on.

        Raises:
            ConfigError: the bundle has none of that name.
        """
        if name == "auto":
            return Choice(_FREE if self.profile == "tiny" else PAPER, f"default of the {self.profile} profile")
        check_name("detector", name, ("auto", *self["detection"].detectors()))
        return Choice(name, "as asked for")


def _is_bundle(folder: Path) -> bool:
    return (folder / "configs" / "inference.json").is_file()


def _check_bundles(folder: Path) -> None:
    full = folder.absolute()
    if not folder.is_dir():
        raise BundleError(f"there is no folder {full}", "name a folder with bundles in it")
    for name in STAGES:
        if (folder / name).is_dir() and not _is_bundle(folder / name):
            found = [file for file in (folder / name / "models" / MODEL, folder / name / MODEL) if file.is_file()]
            file = found[0] if found else "FILE"
            raise BundleError(
                f"{full / name} is no bundle: it has no configs/inference.json",
                f"name its weights by --weights {name}={file}, or make a bundle: stride-monai bundle copy {name}",
            )
    if any(_is_bundle(folder / name) for name in STAGES):
        return
    if _is_bundle(folder):
        raise BundleError(f"{full} is itself a bundle", f"name the folder in which it lies, {full.parent}")
    raise BundleError(
        f"{full} holds no bundle",
        f"name a folder with some of {', '.join(STAGES)}; for weights alone there is --weights STAGE=FILE of screen",
    )


def check_config(config: ScreeningConfig) -> None:
    """Refuse, before anything heavy is imported, folders that hold no bundles, files that are no weights, or no
    operating point, and a detector that the bundle does not have.

    Raises:
        BundleError, ConfigError: with the option that is wrong and the way out.
    """
    store = BundleStore.of(config)
    named = [file for files in config.weights.values() for file in files]
    if config.reranker != "cell_cls" and not Path(config.reranker).is_dir():
        named.append(Path(config.reranker))
    for file in named:
        kind_of_weights(file)
    store.choose_detector(config.detector)
    if config.operating_point is not None:
        read_operating_point(config.operating_point)
