"""What the HTML report shows beside the findings' own texts, worked out from them: plain values, no markup.

The template only lays these out; every number is formatted here, so that it can be tested without parsing HTML.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stride_monai.bethesda import CELL_CLASSES, SLIDE_CLASSES, SLIDE_TO_CELL
from stride_monai.exporters.drawings import Crop, GroundMap, Overview, crop_of, ground_of, overview_of, rgb
from stride_monai.findings import GALLERY_SIZE, Cell, Described, Findings, Pictures, Provenance

__all__ = ["View", "view_of"]

_UNKNOWN = "not known"


class Phrase(NamedTuple):
    """One description of a cell; ``contradicts`` names the cell's class where the two do not go together."""

    text: str
    similarity: str
    contradicts: str


class Card(NamedTuple):
    """One cell of the gallery."""

    rank: int
    cell_class: str
    color: str
    probability: str
    score: str
    attention: str
    cam: str
    reranked: str
    others: str
    position: str
    size: str
    descriptions: tuple[Phrase, ...]
    wordless: str
    crop: Crop | None


class Bar(NamedTuple):
    """One slide class with its probability."""

    name: str
    color: str
    percent: float
    value: str
    top: bool


class Count(NamedTuple):
    """How many of the cells are of one class."""

    name: str
    color: str
    cells: int


class Decision(NamedTuple):
    """The call in words and on a scale of 0-100 %."""

    call: str
    sentence: str
    score: str
    score_percent: float | None
    threshold: str
    threshold_percent: float | None


class Option(NamedTuple):
    """One option as asked for and as used."""

    name: str
    requested: str
    used: str
    differs: bool


class View(NamedTuple):
    """Everything that the template shows and the findings do not say in these words."""

    decision: Decision
    bars: tuple[Bar, ...]
    counts: tuple[Count, ...]
    overview: Overview | None
    ground: GroundMap | None
    cards: tuple[Card, ...]
    words: str
    crop_field: str
    quality: tuple[tuple[str, str], ...]
    slide: tuple[tuple[str, str], ...]
    options: tuple[Option, ...]
    weights: tuple[tuple[str, str], ...]
    provenance: tuple[tuple[str, str], ...]


def view_of(findings: Findings, pictures: Pictures) -> View:
    """The report's content for one slide."""
    cards = tuple(_card(cell, findings, pictures) for cell in findings.cells[:GALLERY_SIZE])
    crop, mpp = next((card.crop for card in cards if card.crop), None), pictures.crop_mpp
    return View(
        decision=_decision(findings),
        bars=_bars(findings),
        counts=_counts(findings.cells),
        overview=overview_of(findings, pictures),
        ground=ground_of(findings, pictures),
        cards=cards,
        words=_words(findings.described, cards),
        crop_field=f"{crop.width * mpp:.0f} × {crop.height * mpp:.0f} µm" if crop else "",
        quality=_quality(findings),
        slide=_slide(findings),
        options=_options(findings.provenance),
        weights=tuple(sorted(findings.provenance.weights.items())),
        provenance=(
            ("stride-monai", findings.provenance.package_version),
            ("Configuration", findings.provenance.config_hash),
            ("Schema", findings.schema_version),
        ),
    )


def _decision(findings: Findings) -> Decision:
    point, score, call = findings.operating_point, findings.score, findings.call
    there, known = math.isfinite(point.threshold), point.applies
    call = call if known else None  # findings of a version that compared with no threshold
    if not findings.cells:
        sentence = "No suspicious cell was found, so there is nothing to decide from."
    elif not known or score is None:
        unset = "the threshold does not hold for these cells" if there else "no threshold is set"
        sentence = "No call was made." if known else f"No call was made: {unset}."
    else:
        side = "at or above" if score >= point.threshold else "below"
        sentence = f"The slide score {_p(score)} is {side} the threshold {_p(point.threshold)}"
        sentence += ", but what cannot be judged is not called negative." if call is None else "."
    return Decision(
        call=call or "no call",
        sentence=sentence,
        score="none" if score is None else _p(score),
        score_percent=None if score is None else _percent(score),
        threshold=(_p(point.threshold) if known else f"{_p(point.threshold)} (not valid here)") if there else "not set",
        threshold_percent=_percent(point.threshold) if known else None,
    )


def _bars(findings: Findings) -> tuple[Bar, ...]:
    probabilities = findings.slide_probabilities
    if probabilities is None:
        return ()
    return tuple(
        Bar(name, rgb(SLIDE_TO_CELL[name]), _percent(p), _p(p), name == findings.slide_class)
        for name, p in zip(SLIDE_CLASSES, probabilities, strict=True)
    )


def _counts(cells: Sequence[Cell]) -> tuple[Count, ...]:
    counts = Counter(cell.cell_class for cell in cells)
    return tuple(Count(name, rgb(name), counts[name]) for name in CELL_CLASSES)


def _card(cell: Cell, findings: Findings, pictures: Pictures) -> Card:
    x, y = cell.box.center
    mpp = findings.slide.mpp
    named = zip(CELL_CLASSES, cell.probabilities, strict=True)
    described, wordless = findings.described, ""
    if not cell.descriptions:
        wordless = f"No description above {described.threshold or 0:.2f}" if described.made else "Not described"
    return Card(
        rank=cell.rank,
        cell_class=cell.cell_class,
        color=rgb(cell.cell_class),
        probability=_p(cell.probabilities[CELL_CLASSES.index(cell.cell_class)]),
        score=_p(cell.score),
        attention=_p(cell.attention),
        cam=_p(cell.cam),
        reranked="" if cell.rerank_score is None else _p(cell.rerank_score),
        others=", ".join(f"{name} {_p(p)}" for name, p in named),
        position=f"{x:.0f}, {y:.0f}",
        size=f"{cell.box.width * mpp:.0f} × {cell.box.height * mpp:.0f} µm",
        descriptions=tuple(
            Phrase(words.text, f"{words.similarity:.2f}", "" if words.fits_class else cell.cell_class)
            for words in cell.descriptions
        ),
        wordless=wordless,
        crop=crop_of(cell, mpp, pictures),
    )


def _words(described: Described, cards: Sequence[Card]) -> str:
    """What is to be known of the gallery's descriptions."""
    if not described.made:
        return f"Cells are not described: {described.why}."
    against = sum(any(phrase.contradicts for phrase in card.descriptions) for card in cards)
    said = f"Descriptions are those whose similarity (cosine) to the cell is above {described.threshold or 0:.2f}."
    if against:
        cells = "1 of these cells has" if against == 1 else f"{against} of these cells have"
        said += f" {cells} a description that contradicts the class: look again."
    return said


def _quality(findings: Findings) -> tuple[tuple[str, str], ...]:
    quality = findings.quality
    adequate = {True: "met", False: "not met", None: "not assessed"}[quality.adequate]
    area, focus, stain, pen = quality.foreground_mm2, quality.focus, quality.stain, quality.pen_fraction
    cells, interval, areas = _count(quality.estimated_cells), quality.cells_interval, quality.areas_mm2 or {}
    rows = [
        ("Adequacy floor", adequate),
        ("Squamous cells, estimated", cells if interval is None else f"{cells} ({interval[0]:,} to {interval[1]:,})"),
        ("Deposit read", _UNKNOWN if area is None else f"{area:,.1f} mm²"),
        ("Out of focus", _of_deposit(areas.get("out_of_focus"), area)),
        ("Focus (variance of the Laplacian)", _UNKNOWN if focus is None else f"{focus:,.0f}"),
        ("Stain (optical density R, G, B)", _UNKNOWN if stain is None else ", ".join(f"{x:.2f}" for x in stain)),
        ("Air bubbles, not read", _of_slide(areas, "bubble")),
        ("Pen, not read", _UNKNOWN if pen is None else f"{100 * pen:.1f} % of the slide"),
        ("Empty glass", _of_slide(areas, "glass")),
        ("Tiles read", _count(quality.tiles_read)),
        ("Unreadable regions", _count(quality.unreadable_regions)),
    ]
    return tuple(rows)


def _of_deposit(part: float | None, whole: float | None) -> str:
    return _UNKNOWN if part is None or not whole else f"{100 * part / whole:.0f} % of the deposit"


def _of_slide(areas: Mapping[str, float], kind: str) -> str:
    return f"{100 * areas[kind] / sum(areas.values()):.1f} % of the slide" if areas else _UNKNOWN


def _count(number: int | None) -> str:
    return _UNKNOWN if number is None else f"{number:,}"


def _slide(findings: Findings) -> tuple[tuple[str, str], ...]:
    slide = findings.slide
    source = {
        "given": "given by the user",
        "metadata": "from the file",
        "objective": "from the objective power",
        "bag": "from the bag file",
    }
    used = ("µm/px used", f"{slide.mpp:.4g}, {source.get(slide.mpp_source, slide.mpp_source)}")
    width, height, offset = slide.width, slide.height, slide.bounds_offset
    if width is None or height is None or offset is None:
        return (("File", slide.reason or _UNKNOWN), used)
    size = " × ".join(f"{side * slide.mpp / 1000:.3g}" for side in (width, height))
    return (
        ("File", slide.name),
        ("Format", f"{slide.format}, read by {slide.reader}"),
        ("Size", f"{width:,} × {height:,} px, {size} mm"),
        used,
        ("µm/px in the file", "none" if slide.mpp_in_file is None else f"{slide.mpp_in_file:.4g}"),
        ("Objective", "not stated" if slide.objective is None else f"{slide.objective:g}×"),
        ("Levels (downsample)", ", ".join(f"{level.downsample:.4g}" for level in slide.levels)),
        ("Offset of the content", f"{offset[0]:,}, {offset[1]:,} px"),
    )


def _options(provenance: Provenance) -> tuple[Option, ...]:
    asked, used = _flat(provenance.requested), _flat(provenance.used)
    digests = set(provenance.weights.values())  # these have a table of their own
    return tuple(
        Option(
            name,
            _value(asked.get(name), "not given"),
            _value(used.get(name), "none" if name in used else "not recorded"),
            _differs(asked.get(name), used.get(name)),
        )
        for name in sorted({*asked, *used})
        if not (isinstance(used.get(name), str) and used.get(name) in digests)
        and (asked.get(name), used.get(name)) != (None, None)
    )


def _flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Options within options as ``part.name``."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value})
    return flat


def _differs(asked: Any, used: Any) -> bool:
    # Whoever gave no value, or left the choice open, asked for none in particular: the value in effect is no surprise.
    return asked not in (None, "auto") and used is not None and _value(asked) != _value(used)


def _value(value: Any, missing: str = "") -> str:
    if value is None:
        return missing
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        return " + ".join(value)
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def _p(value: float) -> str:
    return f"{value:.3f}"


def _percent(value: float) -> float:
    return round(100 * min(max(value, 0.0), 1.0), 2)
