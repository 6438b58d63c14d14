"""The commands ``stride-monai bundle ...``: which bundles came with the package, and copies of them to train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stride_monai.cli.terminal import plain, say

__all__ = ["app"]

app = typer.Typer(name="bundle", help="The MONAI bundles: where they lie, a copy of your own.", no_args_is_help=True)


@app.command("list")
def list_() -> None:
    """The bundles that came with the package: version, weights, folder (for --bundle_root)."""
    from stride_monai.workflows.locate import list_bundles

    for facts in list_bundles():
        weights = ", ".join(facts.weights) or "none: train it"
        say(f"[bold]{facts.name}[/bold] {facts.version}  {plain(facts.title)}")
        say(f"  weights {plain(weights)}\n  folder  {plain(str(facts.root))}")


@app.command()
def copy(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Bundles; all of them if none is named.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder that takes them, one folder each.")] = Path("bundles"),
) -> None:
    """Copy bundles, weights and all, to a folder of your own, to change or train them there."""
    from stride_monai.workflows.locate import copy_bundle, copy_place, list_bundles

    wanted = dict.fromkeys(names or [facts.name for facts in list_bundles()])
    for name in wanted:
        copy_place(name, out)  # a misspelt one, or a place that is taken, is refused before any is copied
    for name in wanted:
        say(plain(str(copy_bundle(name, out))))


@app.command()
def build(
    name: Annotated[str, typer.Argument(help="A bundle that repeats another, such as coloradv.")],
    folder: Annotated[
        Path | None, typer.Option("--bundles", help="Folder of the bundles; that of the package if none is given.")
    ] = None,
) -> None:
    """Make the files of a bundle anew that come from another, with the changes that its overlay.json names."""
    from stride_monai.workflows.build import build_bundle
    from stride_monai.workflows.locate import bundle_root

    root = bundle_root(name) if folder is None else folder / name
    made = build_bundle(root)
    say(plain("\n".join(map(str, made)) or f"{root} is as it has to be"))
