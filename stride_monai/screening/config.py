"""What is asked of screening, and what is used. Imports nothing heavy: a wrong word is refused before networks are."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from stride_monai.errors import ConfigError, check_name
from stride_monai.files import config_hash, paths_of
from stride_monai.inferers.adequacy import QualityRules
from stride_monai.runtimes.choice import check_precision, check_runtime
from stride_monai.slides.protocol import MERGED
from stride_monai.slides.readers.registry import READERS
from stride_monai.workflows.locate import PROFILES

__all__ = [
    "CLASSIFIERS",
    "PROFILES",
    "STAGES",
    "ResolvedConfig",
    "ScreeningConfig",
    "check_common",
    "parse_quality",
    "parse_weights",
    "settings_of",
]

STAGES = ("detection", "cell_cls", "swift_mil", "coloradv", "text_align")
"""The stages that have weights, by the names of their bundles."""
CLASSIFIERS = ("coloradv", "swift_mil")
"""Bundles of slide classifiers, the one that is preferred first."""
_RERANKER = "cell_cls"
_STAGE = "stage of --weights"
_DEVICES = r"auto|(cpu|cuda|mps|xpu|hpu)(:\d+)?"
"""Of PyTorch's, those that may compute; whether one is there, PyTorch knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreeningConfig:
    """What is asked of screening; ``None`` and ``auto`` leave a choice open.

    Attributes:
        mpp: um/px that wins over the file's own; a manifest's value for one slide wins over this.
        reader: ``auto``, or the name of one (:mod:`stride_monai.slides.readers`).
        device: ``auto`` for the first GPU where there is one, else the CPU; or ``cpu``, ``cuda``, ``cuda:1`` ...
        runtime: what computes detector and cell encoder: ``torch``, on a CPU ``openvino`` or ``onnx``, or ``auto`` for
            the fastest that is installed (:func:`stride_monai.runtimes.choose_runtime`).
        precision: in which: ``fp32``; ``bf16`` by torch; or ``int8`` by OpenVINO, see ``int8_networks``.
        int8_networks: folder of ``stride-monai quantize`` with the detector in int8; None for that in which the
            operating point lies.
        profile: ``tiny``, of which weights ship, or ``paper``.
        bundles: folder with bundles of the user's, some or all; None for those of the package.
        detector: ``auto`` for that of the profile, or the name of one (:class:`~stride_monai.screening.BundleStore`).
        classifier: bundle of the slide classifier; ``auto`` for coloradv where it has weights, else swift_mil.
        rerank: a cell classifier chooses the best K of more cells than K. None for as the threshold on the slide score
            was set; where the next two or weights for ``cell_cls`` are given, for yes.
        reranker: which: ``cell_cls``; or the folder of another bundle of that kind; or weights for ``cell_cls``.
        candidates: cells that the detector proposes to it; None for as many as the bundle ``detection`` says, else for
            four for each that is kept.
        descriptions: whether cells are described in words; None for where the bundle text_align has weights.
        activation: how much a cell speaks for the slide class, see
            :func:`stride_monai.networks.class_activation`; None for that of the slide classifier's bundle.
        force: make a call although the threshold was set for another K or on cells that were chosen in another way.
        weights: by stage (:data:`STAGES`) the weights files to use: one, or a base and files of what differs from it.
            What is not named here is in the bundles.
        operating_point: a file of ``stride-monai operating-point``, whose threshold decides in place of that in the
            weights; refused with other weights, K or um/px.
        quality: thresholds of the slide's quality in place of their defaults, by the names of
            :class:`~stride_monai.inferers.QualityRules`.
        image, plane: which of several in a file, see :func:`stride_monai.slides.open_slide`.

    Raises:
        ConfigError: a value is invalid, or two contradict each other. Files are looked at when they are loaded.
    """

    mpp: float | None = None
    reader: str = "auto"
    device: str = "auto"
    runtime: str = "torch"
    precision: str = "fp32"
    int8_networks: Path | None = None
    profile: str = "tiny"
    bundles: Path | None = None
    detector: str = "auto"
    classifier: str = "auto"
    rerank: bool | None = None
    reranker: Path | str = _RERANKER
    candidates: int | None = None
    descriptions: bool | None = None
    activation: str | None = None
    force: bool = False
    weights: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    image: int | None = None
    plane: int | str | None = None
    operating_point: Path | None = None
    quality: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("bundles", "operating_point", "int8_networks"):
            given = getattr(self, name)
            object.__setattr__(self, name, None if given is None else Path(given))
        object.__setattr__(self, "weights", {name: tuple(paths_of(files)) for name, files in self.weights.items()})
        check_common(self.mpp, self.profile, self.device, self.weights)
        for name in ("candidates", "image", "plane"):
            number = getattr(self, name)
            if number is not None and (number < 1 if isinstance(number, int) else number not in MERGED):
                raise ConfigError(
                    f"invalid {name} {number}",
                    "give a whole number from 1" + (f", or {', '.join(MERGED)}" if name == "plane" else ""),
                )
        READERS.check(self.reader)
        check_runtime(self.runtime)
        check_precision(self.precision, self.runtime)
        check_name("slide classifier", self.classifier, ("auto", *CLASSIFIERS))
        QualityRules.of(self.quality)
        self._check_contradictions()

    def _check_contradictions(self) -> None:
        deciding = [name for name in CLASSIFIERS if name in self.weights]
        unused = [name for name in deciding if self.classifier not in {"auto", name}]
        if self.classifier == "auto" and len(deciding) > 1:
            raise ConfigError(
                f"--weights names {' and '.join(deciding)}, one of which decides",
                f"say which: --classifier {deciding[0]} or {deciding[1]}, and leave the other's weights out",
            )
        if unused:
            raise ConfigError(
                f"--weights {unused[0]} is not used by --classifier {self.classifier}", "leave one of the two out"
            )
        about = self._about_reranking()
        if self.rerank is False and about:
            raise ConfigError(f"{about[0]} is about re-ranking, --no-rerank forbids it", "leave one of the two out")
        if {"--reranker", "--weights cell_cls"} <= {*about}:
            raise ConfigError("--reranker and --weights cell_cls both say what re-ranks", "leave one of the two out")
        if self.int8_networks is not None and self.precision != "int8":
            raise ConfigError(
                f"int8_networks are not used with {self.precision}", "give the precision int8, or neither"
            )
        if self.precision == "int8" and self.operating_point is None and self.int8_networks is None:
            raise ConfigError(
                "int8 needs an operating point that was set with it",
                "give --operating-point FOLDER/operating_point.json of stride-monai quantize",
            )
        if "text_align" in self.weights and self.descriptions is False:
            raise ConfigError("--weights text_align is not used by --no-descriptions", "leave one of the two out")

    def _about_reranking(self) -> list[str]:
        given = {
            "--reranker": self.reranker != _RERANKER,
            "--candidates": self.candidates is not None,
            "--weights cell_cls": _RERANKER in self.weights,
        }
        return [name for name, is_given in given.items() if is_given]

    @property
    def reranks(self) -> bool | None:
        """Whether a cell classifier is to re-rank; None where that is left to the threshold on the slide score."""
        return True if self._about_reranking() else self.rerank

    def absolute(self) -> ScreeningConfig:
        """The same with absolute paths, for a process in another folder."""
        return replace(
            self,
            bundles=self.bundles and self.bundles.absolute(),
            reranker=Path(self.reranker).absolute() if Path(self.reranker).exists() else self.reranker,
            weights={name: [file.absolute() for file in files] for name, files in self.weights.items()},
            operating_point=self.operating_point and self.operating_point.absolute(),
            int8_networks=self.int8_networks and self.int8_networks.absolute(),
        )

    def for_findings(self, mpp: float | None) -> dict[str, Any]:
        """As plain values, of files and folders the name alone.

        Args:
            mpp: that of the slide, from its manifest; None for what was asked of all.
        """
        return asdict(self) | {
            "mpp": mpp or self.mpp,
            "bundles": None if self.bundles is None else self.bundles.absolute().name,
            "reranker": Path(self.reranker).name if self.reranks else None,
            "weights": {name: [file.name for file in files] for name, files in self.weights.items()},
            "operating_point": None if self.operating_point is None else self.operating_point.name,
            "int8_networks": None if self.int8_networks is None else self.int8_networks.absolute().name,
        }


def settings_of(config: ScreeningConfig) -> str:
    """Tells runs apart that were asked for different things; whether their weights are the same, it does not tell."""
    return config_hash({**asdict(config.absolute()), "device": None})


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedConfig:
    """What is used where a :class:`ScreeningConfig` asks; what bears the same name there is the same thing.

    Where cells come from bag files, what concerns the detector and the re-ranker's name are None.

    Attributes:
        mpp, mpp_source, reader: of the slide; None before one is opened.
        runtime: what computes detector and cell encoder: its ``name``, ``version``, and ``why`` it is this one.
        precision: in which: ``float32``, ``bfloat16`` or ``int8``; the slide head is float32.
        int8_networks: by name the SHA-256 of the files of each network in int8, which is the detector; None in other
            precisions.
        why: of detector and classifier, in words why it is this one.
        bundles: name of the folder that was given; None where all are the package's.
        rerank, reranker, candidates, rerank_rule: None and False without re-ranking.
        descriptions: whether cells are described; above a cosine of ``description_threshold``.
        tile_px, tile_mpp, overlap_px, origin, min_score, max_per_tile, nms_iou: how the detector sees the slide, see
            :class:`~stride_monai.inferers.SlideDetectionInferer`.
        top_k: cells that are kept and shown.
        crop_px, crop_mpp: of their crops.
        bag_size: cells that the slide classifier decides from.
        weights: by bundle the names of its weights files; ``weights_from`` whether they were ``given``, or are of the
            user's ``own bundle`` or ``shipped``; ``weights_sha256`` what they are.
        quality: the thresholds of quality, all of them.
        version: of the package.
        operating_point: the file that decides: its ``name``, ``sha256`` and ``threshold``; None where the threshold of
            the weights does.
    """

    device: str
    runtime: Mapping[str, str]
    precision: str
    int8_networks: Mapping[str, str] | None
    profile: str
    bundles: str | None
    detector: str | None
    classifier: str
    why: Mapping[str, str]
    rerank: bool
    reranker: str | None
    candidates: int | None
    rerank_rule: str | None
    descriptions: bool
    description_threshold: float | None
    activation: str
    force: bool
    tile_px: int | None
    tile_mpp: float | None
    overlap_px: int | None
    origin: Sequence[float] | None
    min_score: float | None
    max_per_tile: int | None
    nms_iou: float | None
    top_k: int | None
    crop_px: int
    crop_mpp: float
    bag_size: int
    weights: Mapping[str, Sequence[str]]
    weights_from: Mapping[str, str]
    weights_sha256: Mapping[str, str]
    quality: Mapping[str, float]
    version: str
    image: int | None
    plane: int | str | None
    mpp: float | None = None
    mpp_source: str | None = None
    reader: str | None = None
    operating_point: Mapping[str, Any] | None = None


def check_common(mpp: float | None, profile: str, device: str, stages: Iterable[str]) -> None:
    """Refuse values of what all configurations have.

    Args:
        stages: of which weights are named.

    Raises:
        ConfigError: naming the option.
    """
    if mpp is not None and not 0 < mpp < math.inf:
        raise ConfigError(f"invalid mpp {mpp:g}", "give um/px at full resolution, e.g. 0.25")
    check_name("profile", profile, PROFILES)
    if re.fullmatch(_DEVICES, device) is None:
        raise ConfigError(f"unknown device '{device}'", "use auto, cpu or cuda")
    for name in stages:
        check_name(_STAGE, name, STAGES)


def parse_weights(given: Sequence[str]) -> dict[str, tuple[Path, ...]]:
    """The weights files of each stage from texts like ``detection=FILE``.

    A stage that comes again gets a base and a file of what differs from it, in that order.

    Raises:
        ConfigError: a text is of another form, or the stage is unknown.
    """
    found: dict[str, tuple[Path, ...]] = {}
    for text in given:
        name, sign, file = (part.strip() for part in text.partition("="))
        if not (sign and name and file):
            raise ConfigError(f"--weights {text} names no stage and file", "e.g. --weights detection=out/model.pt")
        check_name(_STAGE, name, STAGES)
        found[name] = (*found.get(name, ()), Path(file).expanduser())  # the shell leaves a ~ after = as it is
    return found


def parse_quality(given: Sequence[str]) -> dict[str, float]:
    """The thresholds of quality from texts like ``min_cells=2000``.

    Raises:
        ConfigError: a text is of another form; names and values are looked at by :class:`ScreeningConfig`.
    """
    found: dict[str, float] = {}
    for text in given:
        name, _, value = (part.strip() for part in text.partition("="))
        try:
            found[name] = float(value)
        except ValueError as error:
            raise ConfigError(f"--quality {text} is no NAME=NUMBER", "e.g. --quality min_cells=2000") from error
    return found
