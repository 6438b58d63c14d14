"""``stride-monai evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stride_monai.cli.evaluate_options import (
    ByOption,
    CellsOption,
    CompareMapOption,
    CompareOption,
    FeaturesOption,
    ModelCardOption,
    OutOption,
    PointOption,
    PredictionsArgument,
    PrevalenceOption,
    RepeatOption,
    ReplicatesOption,
    SeedOption,
    SplitOption,
    ThresholdOption,
    TruthOption,
    UnsatisfactoryOption,
    ValidationOption,
)
from stride_monai.cli.options import MapOption, TruthMapOption
from stride_monai.cli.terminal import err_console, plain, say
from stride_monai.errors import ConfigError
from stride_monai.guard import if_stopped

if TYPE_CHECKING:
    from stride_monai.evaluation.inputs.joining import JudgedCohort
    from stride_monai.evaluation.study.model_card import BundleCard
    from stride_monai.evaluation.study.part import Settings
    from stride_monai.evaluation.study.study import Others, Study
    from stride_monai.operating_point import OperatingPointFile

__all__ = ["evaluate"]


def evaluate(
    predictions: PredictionsArgument,
    truth: TruthOption,
    out: OutOption,
    mapping: MapOption = None,
    truth_map: TruthMapOption = None,
    split: SplitOption = "",
    unsatisfactory: UnsatisfactoryOption = False,
    threshold: ThresholdOption = None,
    operating_point: PointOption = None,
    by: ByOption = None,
    prevalence: PrevalenceOption = None,
    compare: CompareOption = None,
    compare_map: CompareMapOption = None,
    cells: CellsOption = None,
    validation: ValidationOption = None,
    repeat: RepeatOption = None,
    features: FeaturesOption = None,
    model_card: ModelCardOption = "",
    replicates: ReplicatesOption = 1000,
    seed: SeedOption = 0,
) -> None:
    """Judge a system against the truth: report.html for people, metrics.json for machines, figures for a paper.

    Every slide of the truth table is accounted for; slides without a judgement are counted, never dropped in silence.
    """
    from stride_monai.evaluation.study.part import PREVALENCES, Settings

    point, of_point = _point_settings(threshold, operating_point)
    settings = Settings(
        by=None if by is None else tuple(by),
        prevalences=tuple(prevalence or PREVALENCES),
        replicates=replicates,
        seed=seed,
        **of_point,
    )
    files = _Files(
        predictions, truth, mapping, truth_map, compare, compare_map, cells, validation, tuple(repeat or ()), features
    )
    _judge(_Asked(files, split, unsatisfactory, point, settings, operating_point, model_card), out)


class _Files(NamedTuple):
    """What is read."""

    predictions: Path
    truth: Path
    mapping: Path | None
    truth_map: Path | None
    compare: Path | None
    compare_map: Path | None
    cells: Path | None
    validation: Path | None
    repeats: tuple[Path, ...]
    features: Path | None


class _Asked(NamedTuple):
    """What is asked for."""

    files: _Files
    split: str
    unsatisfactory: bool
    point: OperatingPointFile | None
    settings: Settings
    point_file: Path | None
    bundle: str

    @property
    def inputs(self) -> list[Path]:
        """Every file that is read."""
        files = self.files
        tables = (files.mapping, files.truth_map, files.compare, files.compare_map, files.cells)
        others = (files.validation, files.features, self.point_file)
        return [files.predictions, files.truth, *files.repeats, *(path for path in (*tables, *others) if path)]


def _judge(asked: _Asked, out: Path) -> None:
    """Read, judge, write and say what came of it."""
    from stride_monai.evaluation.study.model_card import model_card
    from stride_monai.evaluation.study.study import run_study
    from stride_monai.evaluation.study.writing import refuse_out, write_study

    refuse_out(out, asked.inputs)
    bundle = _bundle(asked.bundle) if asked.bundle else None
    with if_stopped(lambda: "nothing was written; give the same command again"):
        cohort, others = _read(asked)
        study = run_study(cohort, asked.settings, others, _tell)
        _tell("writing report and figures")
        write_study(study, out, model_card(bundle, cohort, study.parts) if bundle else "")
    _summarize(study, out)
    if bundle:
        say(f"model card {plain(str(out / 'MODEL_CARD.md'))}")
    say("[bold]Research use only.[/bold]")


def _read(asked: _Asked) -> tuple[JudgedCohort, Others]:
    """The cohort to judge, and what it is held against."""
    from stride_monai.data.cells import read_cells
    from stride_monai.evaluation.inputs.features import read_features
    from stride_monai.evaluation.study.study import Others

    files, split = asked.files, asked.split
    cells = (files.cells, read_cells(files.cells)) if files.cells else None
    known = _Truth(files.truth, files.truth_map, asked.unsatisfactory)
    _tell(f"reading {files.predictions.name}")
    cohort = known.joined(files.predictions, files.mapping, split, asked.point)
    others = Others(
        compare=known.joined(files.compare, files.compare_map, split) if files.compare else None,
        validation=known.joined(files.validation, files.mapping, "") if files.validation else None,
        repeats=[known.joined(path, files.mapping, split) for path in files.repeats],
        features=read_features(files.features) if files.features else None,
        cells=cells,
    )
    return cohort, others


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
    say(f"{flow.in_words}, {flow.analysed:,} analysed")
    if left:
        why = ", ".join(f"{count:,} {name}" for name, count in flow.unjudged.items())
        say(f"[yellow]not judged[/yellow] {left:,}: {plain(why)}")
    for note in study.page.notes:
        say(f"[yellow]note[/yellow] {plain(note)}")
    for name, value, remark in study.page.key_figures:
        say(plain(f"{name}: {value}" + (f" ({remark})" if remark else "")))
    say(f"report {plain(str(out / 'report.html'))}")
    say(f"numbers {plain(str(out / 'metrics.json'))}, tables {plain(str(out))}, figures {plain(str(out / 'figures'))}")
