"""The commands ``stride-monai data ...``: import annotated data, split and join cohorts, look for leakage, read typed
words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from stride_monai.cli.terminal import err_console, out_console, plain, say
from stride_monai.errors import BundleError, ConfigError
from stride_monai.guard import if_stopped

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stride_monai.data.free_text import Embed
    from stride_monai.data.importers import ImportReport

__all__ = ["app"]

app = typer.Typer(
    name="data", help="Annotated data: import, split, join, audit, typed descriptions.", no_args_is_help=True
)

Cohort = Annotated[Path, typer.Argument(help="Cohort folder: manifest.csv, cells.csv.")]


@app.command("import")
def import_(
    form: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help="cric, riva, herlev, sipakmed, mendeley_lbc, cervix93, tianchi, coco, yolo, voc, geojson, folder, "
            "or a plug-in.",
        ),
    ],
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder or file of the data set.")],
    out: Annotated[Path, typer.Option("--out", help="Cohort folder to write.")],
    mpp: Annotated[float | None, typer.Option(help="um/px of the images; wins over what is reported.")] = None,
    own_map: Annotated[
        Path | None, typer.Option("--map", help="JSON: label of the data set -> Bethesda label; wins over the default.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder with the images, where it is not SRC.")] = None,
    point_um: Annotated[float | None, typer.Option(help="Side of the box that is laid around a point, um.")] = None,
    complete: Annotated[
        bool | None,
        typer.Option(
            "--complete/--partial", help="Whether every lesion of the images was marked. Default: the format's."
        ),
    ] = None,
    centre: Annotated[str | None, typer.Option(help="Name of the data set's hospital or scanner site.")] = None,
    patient_from: Annotated[
        str | None, typer.Option(help="Regular expression; its first group in an image's path is the patient.")
    ] = None,
    slide_from: Annotated[
        str | None, typer.Option(help="Likewise for the glass slide, or the larger picture, that an image is from.")
    ] = None,
    encoding: Annotated[str, typer.Option(help="Of text files, e.g. gbk.")] = "utf-8-sig",
    labels_on: Annotated[
        str, typer.Option(help="'stored': labels were drawn on pictures as stored, without their orientation tag.")
    ] = "",
    option: Annotated[
        list[str] | None, typer.Option("--option", help="NAME=VALUE, an option of the format; may be given again.")
    ] = None,
    skip_broken: Annotated[bool, typer.Option(help="Go on without broken rows and images; they are listed.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace the cohort in --out.")] = False,
) -> None:
    """Import a public or own data set as a cohort folder that the bundles train on.

    The label map is printed and saved. A label that no map knows, or one broken row, refuses the import.
    """
    from stride_monai.data.importers import ImportOptions, import_dataset, load_format
    from stride_monai.data.importers.labels import read_map

    options = ImportOptions(
        mpp, point_um, images, centre, complete, patient_from, slide_from, encoding, _values(option or []), labels_on
    )
    with if_stopped("nothing is half-imported; give the same command again"), err_console.status("reading"):
        report = import_dataset(
            source,
            out,
            load_format(form),
            options,
            own_map=read_map(own_map) if own_map else None,
            skip_broken=skip_broken,
            overwrite=overwrite,
        )
    _show(report)


def _values(pairs: list[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ConfigError(f"invalid --option '{pair}'", "e.g. --option part=cropped")
        values[name] = value
    return values


def _show(report: ImportReport) -> None:
    table = Table("label", "cells or images", "becomes", "subtype", "")
    for label, target in report.labels.items():
        lossy = "[yellow]lossy[/yellow]" if target["lossy"] else ""
        table.add_row(plain(label), str(target["count"]), target["label"], plain(target["subtype"]), lossy)
    out_console.print(table)
    counts = report.counts
    classes = f" ({_listed(counts['cells_by_class'])})" if counts["cells"] else ""
    regions = f"{counts['annotated_regions']} annotated regions"
    _say(f"{counts['images']} images, {counts['cells']} cells{classes}, {regions}")
    if set(counts["images_by_class"]) != {"none"}:
        _say(f"images by class: {_listed(counts['images_by_class'])}")
    if set(counts["images_by_split"]) != {"none"}:
        _say(f"splits: {_listed(counts['images_by_split'])}")
    if counts["cells_excluded"]:
        _say(f"excluded by the map: {_listed(counts['cells_excluded'])}")
    for warning in report.warnings:
        say(f"[yellow]note[/yellow] {plain(warning)}")
    if report.problems:
        say(
            f"[yellow]problems[/yellow] {plain(_listed(report.problems))}: "
            f"all in {plain(str(report.folder / 'problems.csv'))}",
        )
    _say(f"licence: {report.license}")
    _say(f"cohort {report.folder}")


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _say(text: str) -> None:
    say(plain(text))


@app.command()
def split(
    cohort: Cohort,
    test: Annotated[float, typer.Option(help="Share of the patients that are for testing, 0-1.")] = 0.2,
    validation: Annotated[float, typer.Option(help="Share of the others that are for validation, 0-1.")] = 0.2,
    hold_out: Annotated[
        list[str] | None, typer.Option("--hold-out", help="Centre that is for testing as a whole; may be given again.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed gives another split.")] = 0,
    by: Annotated[str, typer.Option(help="patient, slide or image: refuse where less is known of an image.")] = "image",
    overwrite: Annotated[bool, typer.Option(help="Replace a split that is there.")] = False,
    keep_test: Annotated[
        bool,
        typer.Option("--keep-test", help="Keep the test set that is there, the publisher's maybe; split the rest."),
    ] = False,
) -> None:
    """Split a cohort into train, validation and test: by patient, where unknown by slide, where unknown by image."""
    from stride_monai.data.splits import split_cohort

    facts = split_cohort(cohort, test, validation, seed, tuple(hold_out or ()), by, overwrite, keep_test)
    table = Table("split", "images", "cells by class")
    for name, count in facts["images"].items():
        table.add_row(name, str(count), _listed(facts["cells"][name]))
    out_console.print(table)
    _say(f"kept together: {_listed(facts['groups'])}")
    for name, kinds in facts["lacking"].items():
        say(f"[yellow]note[/yellow] {name} has no {', no '.join(kinds)}")
    if facts["warning"]:
        say(f"[bold red]LEAKS[/bold red] {plain(facts['warning'])}")
    if facts["manifest_before"]:
        _say(f"your own manifest is kept as {cohort / facts['manifest_before']}")
    _say(f"manifest {cohort / 'manifest.csv'}")


@app.command()
def join(
    cohorts: Annotated[list[Path], typer.Argument(metavar="COHORT...", help="Two or more cohort folders.")],
    out: Annotated[Path, typer.Option("--out", help="Cohort folder to write.")],
    overwrite: Annotated[bool, typer.Option(help="Replace the cohort in --out.")] = False,
) -> None:
    """Join cohorts into one to train on. Images stay where they are; centres, splits, regions and licences are kept.

    The column 'source' of the new manifest names the folder that a slide came from: give it a share of the training
    with --shares "{'cric': 0.25}".
    """
    from stride_monai.data.joining import join_cohorts

    facts = join_cohorts(cohorts, out, overwrite)
    counts, table = facts["counts"], Table("source", "images", "cells", "licence")
    for name, known in facts["sources"].items():
        images, cells = (str(counts[f"{what}_by_source"].get(name, 0)) for what in ("images", "cells"))
        table.add_row(plain(name), images, cells, plain(known.get("license", "")))
    out_console.print(table)
    _say(f"splits: {_listed(counts['images_by_split'])}")
    for warning in facts["warnings"]:
        say(f"[yellow]note[/yellow] {plain(warning)}")
    _say(f"cohort {out}")


@app.command()
def audit(
    cohort: Cohort,
    looks: Annotated[bool, typer.Option("--looks/--no-looks", help="Compare the pictures of the cells too.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Look for leakage between the splits: patients, slides, files and cells that are on both sides.

    One line per finding; the exit status is 1 if there is any.
    """
    from stride_monai.data.audit import audit_cohort

    with err_console.status("looking at the images"):
        result = audit_cohort(cohort, looks)
    if as_json:
        typer.echo(json.dumps(result.to_dict(), indent=1))
    else:
        for finding in result.findings:
            say(f"[red]{finding.kind}[/red] {plain(finding.what)}")
        found = f"{len(result.findings)} findings" if result.findings else "no leak found"
        compared = f"; the looks of {result.cells} cells compared" if looks else "; looks not compared"
        _say(f"{found} in {_listed(result.images)} images{compared}")
    if result.findings:
        raise typer.Exit(1)


@app.command()
def descriptions(
    cohort: Cohort,
    out: Annotated[Path, typer.Option("--out", help="CSV file to write; one that is there is not replaced.")],
    text_encoder: Annotated[
        Path | None,
        typer.Option(help="Folder of a Hugging Face text encoder; without, texts are compared by their spelling."),
    ] = None,
) -> None:
    """List the descriptions that annotators typed, each with the nearest text of the vocabulary and its distance.

    cells.csv stays as it is: what a text means is for its author to say.
    """
    from stride_monai.data.cells import read_cells
    from stride_monai.data.free_text import LEXICAL, free_texts, lexical, match_texts, write_matches

    texts = free_texts(read_cells(cohort / "cells.csv"))
    embed, name = (lexical, LEXICAL) if text_encoder is None else _reader(text_encoder)
    matches = match_texts(texts, embed, name)
    write_matches(out, matches)
    table = Table("typed", "cells", "nearest of the vocabulary", "distance", "")
    for match in matches:
        far = "[yellow]far[/yellow]" if match.far else ""
        table.add_row(plain(match.text), str(match.cells), plain(match.nearest), f"{match.distance:.3f}", far)
    if matches:
        out_console.print(table)
    _say(f"{len(matches)} typed texts, {sum(match.far for match in matches)} of them far from all known ones")
    _say(f"embedding: {name}")
    _say(f"table {out}")


def _reader(folder: Path) -> tuple[Embed, str]:
    """A text encoder's embedding, and its name."""
    if not folder.is_dir():
        raise ConfigError(f"there is no folder '{folder}'", "give the folder of a Hugging Face text encoder, or none")
    from stride_monai.networks.alignment.text_encoders import HuggingFaceText

    try:
        encoder = HuggingFaceText(str(folder)).eval()
    except BundleError as error:
        advice = "give a folder with a model and its tokenizer (save_pretrained), or leave --text-encoder out"
        raise BundleError(error.what, advice) from error

    def embed(texts: Sequence[str]) -> NDArray[np.float64]:
        import torch

        with torch.inference_mode():
            return encoder.embed(texts).double().numpy()

    return embed, f"first token of the text encoder {folder.resolve().name}"
