"""Squamous cells estimated against cells drawn, and how often the interval holds them.

    python benchmarks/cell_counts.py [--seeds 400 401 ...] [--diameter MM] [--work FOLDER]

One synthetic slide a seed, each of a laboratory drawn at random (stain, glass, focus, density, crowding), so that the
spread of the error is that from laboratory to laboratory. It is what ``count_spread`` of QualityRules states. The
seeds are none of those by which the counting was chosen (100 to 123).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from record import Record, make_parser

from stride_monai.inferers.adequacy import RULES
from stride_monai.inferers.slide_detection import SlideDetectionInferer
from stride_monai.inferers.tile_quality import count_nuclei
from stride_monai.phantom.render import plan_slide, render_slide
from stride_monai.slides import find_foreground, open_slide, stream_tiles

MPP = 0.5


def counted_and_drawn(path: Path, seed: int, diameter_mm: float) -> tuple[int, int]:
    options: dict[str, Any] = {"seed": seed, "diameter_mm": diameter_mm, "mpp": MPP, "centre": "any", "margin_mm": 0.1}
    plan, _ = plan_slide("NILM", **options)
    if not path.exists():
        render_slide(path, "NILM", **options)
    inferer = SlideDetectionInferer(workers=1)
    with open_slide(path) as slide:
        foreground = find_foreground(slide)
        tiles = [tile for tile in inferer.grid(slide) if foreground.touches(tile.box)]
        counted = sum(
            count_nuclei(pixels, inferer.tile_mpp, inferer.core(tile.box, slide))
            for tile, pixels in stream_tiles(slide, tiles, inferer.tile_mpp, workers=1)
            if isinstance(pixels, np.ndarray)
        )
    return counted, plan.squamous_cells


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(400, 430)))
    parser.add_argument("--diameter", type=float, default=1.5, help="of the deposit, mm")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    figures = Record("cell_counts", "Squamous cells: estimated and drawn")
    table = figures.table("seed", "drawn", "estimated", "ratio", "interval", "holds", caption="One slide a laboratory.")
    errors, held = [], []
    for seed in arguments.seeds:
        counted, drawn = counted_and_drawn(
            arguments.work / f"count-{seed}-{arguments.diameter:g}.tiff", seed, arguments.diameter
        )
        low, high = RULES.interval(counted)
        errors.append(math.log(max(counted, 1) / drawn))
        held.append(low <= drawn <= high)
        table.row(seed, drawn, counted, f"{counted / drawn:.2f}", f"{low}-{high}", "yes" if held[-1] else "no")
    figures.say(
        f"Logarithm of estimated over drawn: mean {np.mean(errors):+.3f}, standard deviation {np.std(errors):.3f}. "
        f"The interval (count_spread {RULES.count_spread:g}) holds the cells of {sum(held)} of {len(held)} slides."
    )
    figures.write(arguments.seeds)


if __name__ == "__main__":
    main()
