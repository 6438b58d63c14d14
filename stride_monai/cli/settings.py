"""The settings of screening as options: what decides the findings, the same for every command that screens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stride_monai.cli.options import BundlesOption, ImageOption, MppOption, PlaneOption, WeightsOption

if TYPE_CHECKING:
    from stride_monai.screening.config import ScreeningConfig

__all__ = ["ModelSettings", "Settings"]


@dataclass(frozen=True)
class ModelSettings:
    """Slides and networks: one option for each field; see :class:`~stride_monai.screening.ScreeningConfig`."""

    mpp: MppOption = None
    image: ImageOption = None
    plane: PlaneOption = None
    reader: Annotated[str, typer.Option(help="auto, openslide, tiff, image, cucim, or an installed plug-in.")] = "auto"
    profile: Annotated[str, typer.Option("--profile", help="tiny (weights shipped) or paper (your own weights).")] = (
        "tiny"
    )
    detector: Annotated[
        str,
        typer.Option("--detector", help="auto (fcos; yolo with --profile paper), fcos, yolo (extra yolo), or another."),
    ] = "auto"
    rerank: Annotated[
        bool | None,
        typer.Option(
            help="A cell classifier chooses the best K of more cells than K. Default: as the threshold was set."
        ),
    ] = None
    reranker: Annotated[str, typer.Option(help="To re-rank by: a bundle like cell_cls, or weights for it.")] = (
        "cell_cls"
    )
    candidates: Annotated[
        int | None,
        typer.Option(help="Cells that the detector proposes to it; of the profile paper 4 for each that is kept."),
    ] = None
    classifier: Annotated[
        str,
        typer.Option(
            "--classifier", help="auto (coloradv where it has weights, else swift_mil), coloradv or swift_mil."
        ),
    ] = "auto"
    descriptions: Annotated[
        bool | None,
        typer.Option(help="Say in words why each cell is suspicious. Default: where text_align has weights."),
    ] = None
    bundles: BundlesOption = None
    weights: WeightsOption = None
    quality: Annotated[
        list[str] | None,
        typer.Option(
            "--quality",
            metavar="NAME=NUMBER",
            help="A threshold of the slide's quality, e.g. min_cells=2000; again for each (docs/slides.md).",
        ),
    ] = None

    def config(self, **computed: str) -> ScreeningConfig:
        """What is asked of screening, of files that are there.

        Args:
            computed: what the command itself decides, such as ``runtime``.

        Raises:
            ConfigError: a value is invalid, or two contradict each other.
        """
        from stride_monai.screening.config import ScreeningConfig, parse_quality, parse_weights
        from stride_monai.screening.store import check_config

        given: dict[str, Any] = {**vars(self), **computed}
        given |= {"weights": parse_weights(self.weights or []), "quality": parse_quality(self.quality or [])}
        config = ScreeningConfig(**given)
        check_config(config)
        return config


@dataclass(frozen=True)
class Settings(ModelSettings):
    """With what computes, and what decides."""

    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto"
    runtime: Annotated[
        str, typer.Option(help="On a CPU: torch, openvino (extra fast), onnx (extra onnx), or auto for the fastest.")
    ] = "torch"
    precision: Annotated[
        str, typer.Option(help="fp32; bf16 by torch; or int8 by openvino, with the --operating-point of 'quantize'.")
    ] = "fp32"
    operating_point: Annotated[
        Path | None,
        typer.Option(
            "--operating-point",
            metavar="FILE",
            help="Threshold of 'stride-monai operating-point', in place of that in the weights.",
        ),
    ] = None
