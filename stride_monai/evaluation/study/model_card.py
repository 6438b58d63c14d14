"""The model card of a bundle, with the numbers of an evaluation (Mitchell et al. 2019, https://arxiv.org/abs/1810.03993)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

from stride_monai import __version__
from stride_monai.errors import BundleError
from stride_monai.evaluation.inputs.joining import JudgedCohort
from stride_monai.evaluation.page.page import PageTable
from stride_monai.evaluation.reports import counted
from stride_monai.evaluation.study.checklist import OPEN
from stride_monai.evaluation.study.part import Part, joined_words
from stride_monai.files import joint_sha256, sha256_of
from stride_monai.findings import DISCLAIMER

__all__ = ["MODEL_CARD_NAME", "BundleCard", "model_card", "read_bundle"]

MODEL_CARD_NAME = "MODEL_CARD.md"
_WEIGHTS = {".pt", ".ts", ".safetensors"}
_SHOWN = (
    "discrimination",
    "operating_point",
    "clustered",
    "calibration",
    "exclusion",
    "classes",
    "centres",
    "subgroups",
)


class BundleCard:
    """What a bundle says of itself.

    Attributes:
        meta: the content of ``configs/metadata.json``. weights: file name -> SHA-256.
    """

    def __init__(self, meta: Mapping[str, Any], weights: Mapping[str, str]) -> None:
        self.meta, self.weights = meta, weights

    def fact(self, name: str) -> str:
        """A text of the metadata; what is open where it says nothing."""
        return " ".join(str(self.meta.get(name) or OPEN).split())


def read_bundle(root: Path) -> BundleCard:
    """Read a bundle's metadata and hash its weights.

    Raises:
        BundleError: it is no bundle.
    """
    path = root / "configs" / "metadata.json"
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(meta, dict):
            raise ValueError("no object")
    except (OSError, ValueError) as error:
        raise BundleError(f"{root} is no bundle: {path.name} cannot be read ({error})", "name its folder") from error
    models = sorted(path for path in (root / "models").glob("*") if path.suffix in _WEIGHTS)
    return BundleCard(meta, {path.name: sha256_of(path) for path in models})


def model_card(bundle: BundleCard, cohort: JudgedCohort, parts: Sequence[Part]) -> str:
    """The card as Markdown."""
    by_key = {part.key: part for part in parts}
    slides = by_key["slides"].numbers
    used = cohort.sources["predictions"].get("weights")
    lines = [
        f"# Model card: {bundle.fact('name')}",
        f"**{DISCLAIMER}**",
        "## Model",
        _list(
            {
                "Version": bundle.fact("version"),
                "What it does": bundle.fact("description"),
                "Input": bundle.fact("image_classes"),
                "Output": bundle.fact("pred_classes"),
                "Authors": bundle.fact("authors"),
                "References": joined_words(map(str, bundle.meta.get("references") or ())) or OPEN,
                "Weights": "; ".join(f"{name} `{digest[:12]}`" for name, digest in bundle.weights.items()) or "none",
            }
        ),
        "## Intended use",
        bundle.fact("intended_use"),
        "## Training data",
        bundle.fact("data_source"),
        "## Evaluation data",
        _list(
            {
                "Slides": f"{counted(slides['listed'], 'slide')} listed, {slides['eligible']:,} with a diagnosis, "
                f"{slides['analysed']:,} analysed ({slides['positive']:,} positive)",
                "Diagnoses": ", ".join(f"{name} {count:,}" for name, count in slides["labels"].items()),
                "Not judged": ", ".join(f"{why} {count:,}" for why, count in slides["unjudged"].items()) or "none",
                "Cohort": f"`{slides['cohort_sha256'][:12]}`",
                "Screened with": _screened_with(used, bundle),
            }
        ),
        "## Results",
        *(_results(by_key[key]) for key in _SHOWN if key in by_key),
        "## Limitations",
        *([f"- {note}" for note in cohort.notes] or []),
        f"- Other populations, scanners, preparations and ethical considerations: {OPEN}.",
        f"Made by stride-monai {__version__} from the numbers of `metrics.json`; the whole report is `report.html`.",
    ]
    return "\n\n".join(lines) + "\n"


def _screened_with(used: Any, bundle: BundleCard) -> str:
    """Whether these predictions are of the bundle's own weights, as far as is known."""
    if not isinstance(used, dict):
        return f"the table of predictions does not say with which weights; {OPEN}"
    digests = set(used.values())
    joint = {
        " and ".join(pair): joint_sha256([bundle.weights[n] for n in pair]) for pair in permutations(bundle.weights, 2)
    }
    same = [name for name, digest in {**bundle.weights, **joint}.items() if digest in digests]
    if same:
        return f"{joined_words(same)} of this bundle"
    return "**other weights than this bundle's**: " + ", ".join(f"{n} `{d[:12]}`" for n, d in used.items())


def _list(facts: Mapping[str, str]) -> str:
    return "\n".join(f"- **{name}**: {text}" for name, text in facts.items())


def _results(part: Part) -> str:
    tables = [_table(table) for table in part.section.tables]
    return "\n\n".join([f"### {part.section.title}", *part.section.notes, *tables])


def _table(table: PageTable) -> str:
    rows = [table.columns, ["---"] * len(table.columns), *table.rows]
    text = "\n".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in row)} |" for row in rows)
    return "\n\n".join(filter(None, [f"{table.caption}:", text, table.note]))
