"""``stride-monai evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stride_monai.cli.options import MapOption, TruthMapOption
from stride_monai.cli.terminal import err_console, plain, say
from stride_monai.errors import ConfigError
from stride_monai.guard import if_stopped

if TYPE_CHECKING:
    from stride_monai.evaluation.inputs.joining import JudgedCohort
    from stride_monai.evaluation.study.model_card import BundleCard
    from stride_monai.evaluation.study.study import Study
    from stride_monai.operating_point import OperatingPointFile

__all__ = ["evaluate"]


def evaluate(
    predictions: Annotated[
        Path,
        typer.Argument(help="Results folder of screen, or a table (CSV, JSON, Parquet): slide_id, score, call, ..."),
    ],
    truth: Annotated[
        Path, typer.Option("--truth", help="Table with slide_id, label (Bethesda) and any further columns.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for metrics.json, report.html, tables and figures.")],
    mapping: MapOption = None,
    truth_map: TruthMapOption = None,
    split: Annotated[str, typer.Option(help="Judge slides of this split alone: train, validation or test.")] = "",
    unsatisfactory: Annotated[
        bool,
        typer.Option("--with-unsatisfactory", help="Judge unsatisfactory slides that have a score like the others."),
    ] = False,
    threshold: Annotated[
        float | None, typer.Option(help="Call slides positive at or above it, whatever the system called them.")
    ] = None,
    operating_point: Annotated[
        Path | None, typer.Option("--operating-point", help="The same with the threshold of a file of operating-point.")
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="Column of the truth table for a table of subgroups; again for each. Default: the usual ones."
        ),
    ] = None,
    prevalence: Annotated[
        list[float] | None,
        typer.Option(help="Share of positive slides for which PPV and NPV are given; again for each."),
    ] = None,
    compare: Annotated[Path | None, typer.Option(help="Predictions of another system on the same slides.")] = None,
    compare_map: Annotated[Path | None, typer.Option("--compare-map", help="Its mapping file.")] = None,
    cells: Annotated[
        Path | None, typer.Option(help="Table of marked cells: judge too which of them were found, and as what.")
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(help="The system's predictions of validation slides of the truth table: calibrates the scores."),
    ] = None,
    repeat: Annotated[
        list[Path] | None,
        typer.Option(help="Predictions of the same training with another seed; again for each: mean and SD."),
    ] = None,
    features: Annotated[
        Path | None, typer.Option(help="Features of slides for t-SNE: .npz, or a table with slide_id and numbers.")
    ] = None,
    model_card: Annotated[
        str, typer.Option("--model-card", metavar="BUNDLE", help="Write MODEL_CARD.md of a bundle: its name or folder.")
    ] = "",
    replicates: Annotated[int, typer.Option(help="Bootstrap samples of patients and centres; 0 for none.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of whatever is drawn.")] = 0,
) -> None:
    """Judge a system against the truth: report.html for people, metrics.json for machines, figures for a paper.

    Every slide of the truth table is accounted for; slides without a judgement are counted, never dropped in silence.
    """
    from stride_monai.data.cells import read_cells
    from stride_monai.evaluation.inputs.features import read_features
    from stride_monai.evaluation.study.model_card import model_card as card_of
    from stride_monai.evaluation.study.part import PREVALENCES, Settings
    from stride_monai.evaluation.study.study import Others, run_study
    from stride_monai.evaluation.study.writing import refuse_out, write_study

    point, of_point = _point_settings(threshold, operating_point)
    settings = Settings(
        by=None if by is None else tuple(by),
        prevalences=tuple(prevalence or PREVALENCES),
        replicates=replicates,
        seed=seed,
        **of_point,
    )
    more = (mapping, truth_map, compare, compare_map, cells, validation, features, operating_point, *(repeat or ()))
    refuse_out(out, [path for path in (predictions, truth, *more) if path])
    bundle = _bundle(model_card) if model_card else None
    marked = (cells, read_cells(cells)) if cells else None
    known = _Truth(truth, truth_map, unsatisfactory)
    with if_stopped(lambda: "nothing was written; give the same command again"):
        _tell(f"reading {predictions.name}")
        cohort = known.joined(predictions, mapping, split, point)
        others = Others(
            compare=known.joined(compare, compare_map, split) if compare else None,
            validation=known.joined(validation, mapping, "") if validation else None,
            repeats=[known.joined(path, mapping, split) for path in repeat or ()],
            features=read_features(features) if features else None,
            cells=marked,
        )
        study = run_study(cohort, settings, others, _tell)
        _tell("writing report and figures")
        write_study(study, out, card_of(bundle, cohort, study.parts) if bundle else "")
    _summarize(study, out)
    if bundle:
        say(f"model card {plain(str(out / 'MODEL_CARD.md'))}")
    say("[bold]Research use only.[/bold]")


class _Truth:
    """The truth table, to which predictions are joined."""

    def __init__(self, path: Path, mapping: Path | None, unsatisfactory: bool) -> None:
        from stride_monai.evaluation.inputs.mapping import read_mapping
        from stride_monai.evaluation.inputs.truth import read_truth

        self._truth, self._unsatisfactory = read_truth(path, read_mapping(mapping)), unsatisfactory

    def joined(
        self, predictions: Path, mapping: Path | None, split: str, point: OperatingPointFile | None = None
    ) -> JudgedCohort:
        """Predictions and truth; refuses slides that an operating point does not hold for."""
        from stride_monai.evaluation.inputs.joining import join_truth, noted_point
        from stride_monai.evaluation.inputs.mapping import read_mapping
        from stride_monai.evaluation.inputs.predictions import read_predictions
        from stride_monai.evaluation.inputs.results_folder import refuse_other_point

        said = read_predictions(predictions, read_mapping(mapping))
        if point is not None:
            refuse_other_point(point, said.screened)
        cohort = join_truth(said, self._truth, split, self._unsatisfactory)
        return cohort if point is None else noted_point(cohort, point)


def _bundle(name: str) -> BundleCard:
    """By its folder, or by the name of one that came with the package."""
    from stride_monai.evaluation.study.model_card import read_bundle
    from stride_monai.workflows.locate import bundle_root

    return read_bundle(Path(name) if Path(name).is_dir() else bundle_root(name))


def _point_settings(threshold: float | None, file: Path | None) -> tuple[OperatingPointFile | None, dict[str, Any]]:
    """The operating point, if one is given, and what of the settings it decides."""
    from stride_monai.operating_point import read_operating_point

    if threshold is not None and file is not None:
        raise ConfigError("both --threshold and --operating-point are given", "give one of them")
    if file is None:
        return None, {"threshold": threshold, "threshold_from": "" if threshold is None else "given by --threshold"}
    point = read_operating_point(file)
    return point, {"threshold": point.threshold, "threshold_from": f"chosen on {point.date}: {point.in_words()}"}


def _tell(text: str) -> None:
    if err_console.is_terminal:
        say(f"[dim]{plain(text)}[/dim]", err_console)


def _summarize(study: Study, out: Path) -> None:
    flow = study.cohort.flow
    left = flow.eligible - flow.analysed
    say(f"{flow.listed:,} slides in the truth table, {flow.eligible:,} with a diagnosis, {flow.analysed:,} analysed")
    if left:
        why = ", ".join(f"{count:,} {name}" for name, count in flow.unjudged.items())
        say(f"[yellow]not judged[/yellow] {left:,}: {plain(why)}")
    for note in study.page.notes:
        say(f"[yellow]note[/yellow] {plain(note)}")
    for name, value, remark in study.page.key_figures:
        say(plain(f"{name}: {value}" + (f" ({remark})" if remark else "")))
    say(f"report {plain(str(out / 'report.html'))}")
    say(f"numbers {plain(str(out / 'metrics.json'))}, tables {plain(str(out))}, figures {plain(str(out / 'figures'))}")
