"""What ``import stride_monai as sm`` gives beyond the names of the rooms: a slide, or single cells, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stride_monai.errors import SlideError, StrideError
from stride_monai.exporters.writers import load_writers
from stride_monai.files import paths_of
from stride_monai.findings import Findings
from stride_monai.screening.batch import Batch, screen_batch
from stride_monai.screening.classify.classifier import load_cells_classifier
from stride_monai.screening.classify.config import ClassifyConfig
from stride_monai.screening.classify.inputs import CellInputs
from stride_monai.screening.classify.results import ClassifiedCell
from stride_monai.screening.classify.run import check_cells_config, classified, classify_into
from stride_monai.screening.config import ScreeningConfig
from stride_monai.screening.inputs import SlideInput, one_input
from stride_monai.screening.results import FINDINGS_FILE
from stride_monai.screening.screener import Screener
from stride_monai.screening.store import check_config

__all__ = ["classify", "screen"]


def screen(slide: Path | str, *, out: Path | str | None = None, **options: Any) -> Findings:
    """Screen one slide in this process. For many, make one :class:`~stride_monai.Screener`, or use the command line.

    Args:
        slide: its file; or the folder or list that holds it alone.
        out: folder for its files of results, as ``stride-monai screen --out`` writes them; None writes nothing. What is
            there already, of the same slide and settings, is not made again.
        options: of :class:`~stride_monai.ScreeningConfig`, e.g. ``mpp=0.25``.

    Raises:
        SlideError: the slide fails; the message says why.
        BundleError, ConfigError, MissingExtraError: the networks cannot be loaded as asked.
        OutputError: the results cannot be written.

    Example:
        >>> sm.screen("slide.svs", mpp=0.25).slide_class  # doctest: +SKIP
        'HSIL'
    """
    config, item = ScreeningConfig(**options), one_input(slide)
    check_config(config)
    screener = Screener(config)
    if out is not None:
        return _written(screener, item, Path(out))
    try:
        return screener.screen(item).findings
    except StrideError:
        raise
    except Exception as error:
        what = f"{item.path.name}: unexpected {type(error).__name__}: {error}"
        raise SlideError(" ".join(what.split()), "please report it") from error


def classify(
    cells: Path | str | Sequence[Path | str], *, out: Path | str | None = None, batch_size: int = 64, **options: Any
) -> list[ClassifiedCell]:
    """Classify single cells in this process, from their pictures or from points on slides.

    Args:
        cells: pictures, folders of pictures, or lists, as ``stride-monai classify`` takes them; one or several.
        out: folder for ``cells.csv`` and ``classify.json``; None writes nothing.
        batch_size: crops in memory at a time.
        options: of :class:`~stride_monai.screening.ClassifyConfig`, e.g. ``mpp=0.25``.

    Returns:
        Each cell in order, with its class, or with the ``error`` for which it has none.

    Raises:
        ManifestError: a list cannot be used.
        BundleError, ConfigError: the networks cannot be loaded as asked.
        OutputError: the results cannot be written.

    Example:
        >>> [cell.cell_class for cell in sm.classify("cells/", mpp=0.25)]  # doctest: +SKIP
        ['NILM', 'LSIL']
    """
    config = ClassifyConfig(**options)
    check_cells_config(config)
    inputs, found = CellInputs(paths_of(cells), config.boxes), list[ClassifiedCell]()
    one = load_cells_classifier(config)
    if out is None:
        return list(classified(one, inputs, batch_size))
    classify_into(Path(out), one, inputs, config, batch_size, found.append)
    return found


def _written(screener: Screener, item: SlideInput, out: Path) -> Findings:
    batch = Batch(screener, out, load_writers(), inputs=[item.path])
    (outcome,) = screen_batch(batch, [item])
    if outcome.status == "failed":
        raise SlideError(outcome.reason)
    return Findings.from_json((out / item.slide_id / FINDINGS_FILE).read_text(encoding="utf-8"))
