"""``stride-monai phantom``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stride_monai.cli.terminal import plain, progress_bars, say
from stride_monai.errors import ConfigError
from stride_monai.guard import if_stopped

if TYPE_CHECKING:
    from stride_monai.phantom.cohorts.bags import BagSettings
    from stride_monai.phantom.cohorts.design import CohortDesign

__all__ = ["phantom"]

_ADEQUATE_MM = 5.0  # 5,000 cells at 255 per mm2, the sparser of the preparations


def phantom(
    out: Annotated[Path, typer.Option("--out", help="Folder for slides, truth and manifest.")],
    slide_class: Annotated[
        list[str] | None, typer.Option("--slide-class", help="One slide of this class; may be given several times.")
    ] = None,
    slides: Annotated[int, typer.Option(help="Instead of classes: so many slides of mixed classes.")] = 0,
    cohort: Annotated[
        str | None,
        typer.Option(help="internal (8 centres, 21 % positive) or external (4 unseen centres, 4.4 %, test)."),
    ] = None,
    prevalence: Annotated[
        float | None, typer.Option(help="Share of positive slides; 0.21, or that of the cohort.")
    ] = None,
    diameter: Annotated[
        float | None, typer.Option(help="Diameter of the deposit in mm; 13, or with --cohort the centre's own.")
    ] = None,
    centre: Annotated[
        list[str] | None, typer.Option("--centre", help="Use only this centre; may be given several times.")
    ] = None,
    artefact: Annotated[
        list[str] | None,
        typer.Option(
            "--artefact", help="pen, bubbles, coverslip, dust or fibre on every slide; several times if need be."
        ),
    ] = None,
    label_noise: Annotated[float, typer.Option(help="Share of slides of which the manifest has a wrong class.")] = 0.0,
    inadequate: Annotated[float, typer.Option(help="Share of slides with too few or hidden cells.")] = 0.0,
    bags_only: Annotated[bool, typer.Option("--bags-only", help="No slides: only bags of their top crops.")] = False,
    top_k: Annotated[int | None, typer.Option(help="With --bags-only: cells per bag; 256.")] = None,
    crop_px: Annotated[int | None, typer.Option(help="With --bags-only: side of a crop in px; 224.")] = None,
    crop_mpp: Annotated[float | None, typer.Option(help="With --bags-only: um/px of the crops; 0.5.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same slides.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes.")] = 1,
    overwrite: Annotated[bool, typer.Option(help="Replace what is there.")] = False,
) -> None:
    """Render synthetic slides with known truth, or bags of them; no patient data, no network.

    A run that was stopped is taken up by the same command.
    """
    from stride_monai.phantom.cohorts.bags import BagSettings

    if slide_class and slides:
        raise ConfigError("say either --slide-class or --slides", "e.g. --slide-class NILM --slide-class HSIL")
    changes = {
        "classes": tuple(slide_class or ()) or slides or None,
        "prevalence": prevalence,
        "diameter_mm": diameter,
        "centres": tuple(centre or ()) or None,
        "artefacts": tuple(artefact or ()) or None,
    }
    design = _design(cohort, {name: value for name, value in changes.items() if value is not None})
    design = replace(design, label_noise=label_noise, inadequate=inadequate, seed=seed)
    crops = {"top_k": top_k, "crop_px": crop_px, "crop_mpp": crop_mpp}
    given: dict[str, Any] = {name: value for name, value in crops.items() if value is not None}
    if given and not bags_only:
        raise ConfigError(f"--{next(iter(given)).replace('_', '-')} is about bags", "add --bags-only, or leave it out")
    manifest = _make(out, design, BagSettings(**given) if bags_only else None, workers=workers, overwrite=overwrite)
    say(f"manifest {plain(str(manifest))}")
    if not bags_only and design.diameter_mm is not None and design.diameter_mm < _ADEQUATE_MM:
        say(
            f"[yellow]note[/yellow] deposits under {_ADEQUATE_MM:g} mm can hold fewer than 5,000 cells: screening "
            "scores such slides and calls them unsatisfactory, and operating-point leaves them out"
        )


def _make(out: Path, design: CohortDesign, bags: BagSettings | None, **run: Any) -> Path:
    """The manifest of the slides, or of the bags."""
    from stride_monai.phantom.cohorts.cohort import make_bags, make_slides

    with if_stopped("what is done stays; the same command goes on"), progress_bars(period=600) as progress:
        total = design.classes if isinstance(design.classes, int) else len(design.classes)
        bar = progress.add_task("slides" if bags is None else "bags", total=total)

        def on_progress(done: float) -> None:
            progress.update(bar, completed=done)

        run |= {"on_progress": on_progress}
        return make_slides(out, design, **run) if bags is None else make_bags(out, design, bags, **run)


def _design(cohort: str | None, changes: dict[str, Any]) -> CohortDesign:
    from stride_monai.phantom.cohorts.design import CohortDesign, design_of

    classes = changes.get("classes")
    if isinstance(classes, tuple) and (cohort or "prevalence" in changes):
        raise ConfigError(
            "--slide-class says what every slide is", "leave out --cohort and --prevalence, or the classes"
        )
    if cohort is not None:
        return design_of(cohort, **changes)
    if classes is None:
        raise ConfigError("say --slide-class, --slides or --cohort", "e.g. --slide-class NILM --slide-class HSIL")
    return CohortDesign(**changes)
