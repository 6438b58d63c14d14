"""How well a detector trained on synthetic slides alone finds the labelled lesions of real CRIC fields.

    python benchmarks/cric_transfer.py --name "all centres" [--checkout DIR] [--centre north] [--augmentation weak]

Renders a small cohort, trains the tiny detector on it for a fixed number of epochs and prints a row of a table: recall
of the lesion nuclei in the top 64 and 256 boxes of each field, and of all nuclei. `--checkout` takes generator and
bundle from another revision of the project, so that rows of different generators can be compared at equal cost. The
fields judge; nothing is chosen by them within a run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from cric_recall import DATA, recall

ROOT = Path(__file__).resolve().parents[1]
LABELS = ["NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "AGC", "NILM", "LSIL"]
RENDER = """
if __name__ == "__main__":
    from stride_monai.phantom.cohort import render_cohort
    render_cohort({folder!r}, classes={labels!r}, diameter_mm=1.2, seed={seed}, test_fraction=0.0, centres={centres!r})
"""


def run(checkout: Path, *command: str) -> None:
    subprocess.run([sys.executable, *command], check=True, env={**os.environ, "PYTHONPATH": str(checkout)})


def trained(arguments: argparse.Namespace, work: Path) -> Path:
    """The checkpoint of a detector trained as asked; what is there already is kept."""
    cohort, out, checkout = work / "cohort", work / "detection", arguments.checkout.resolve()
    labels = [LABELS[i % len(LABELS)] for i in range(arguments.slides)]
    if not (cohort / "manifest.csv").exists():
        code = RENDER.format(folder=str(cohort), labels=labels, seed=arguments.seed, centres=arguments.centre)
        run(checkout, "-c", code)
    if not (out / "model.pt").exists():
        root = checkout / "bundles" / "detection"
        settings = {
            "config_file": str([str(root / "configs" / f"{name}.json") for name in ("train", "tiny")]),
            "bundle_root": root,
            "dataset_dir": cohort,
            "output_dir": out,
            "tile_size": 256,
            "batch_size": 16,
            "val_batch_size": 16,
            "max_epochs": arguments.epochs,
            "val_interval": arguments.epochs,
            "augmentation": arguments.augmentation,
            "seed": arguments.seed,
        }
        run(checkout, "-m", "monai.bundle", "run", *(part for k, v in settings.items() for part in (f"--{k}", str(v))))
    return out / "model.pt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", required=True, help="of the row")
    parser.add_argument("--checkout", type=Path, default=ROOT)
    parser.add_argument("--centre", action="append", help="only this centre; may be given again")
    parser.add_argument("--augmentation", default="weak", choices=["weak", "strong"])
    parser.add_argument("--slides", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work/transfer"))
    arguments = parser.parse_args()
    result = recall(arguments.data, trained(arguments, (arguments.work / arguments.name).resolve()))
    cells = [
        f"{inside:.3f} / {near:.3f}"
        for inside, near in (
            result.share("lesion nuclei", 64),
            result.share("lesion nuclei", 256),
            result.share("all nuclei", 64),
            result.share("all nuclei", 256),
        )
    ]
    print("| training data | lesions, top 64 | lesions, top 256 | all, top 64 | all, top 256 | boxes per field |")
    print("|---|---|---|---|---|---|")
    print(f"| {arguments.name} | {' | '.join(cells)} | {sum(result.boxes) / len(result.boxes):.0f} |")


if __name__ == "__main__":
    main()
