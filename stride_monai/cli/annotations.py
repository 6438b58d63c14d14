"""The commands ``stride-monai annotations ...``: export, agreement, import, users."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from stride_monai.cli.terminal import err_console, out_console, plain, say
from stride_monai.errors import ConfigError

if TYPE_CHECKING:
    from stride_monai.annotations import Agreement, AnnotationStore

__all__ = ["app"]

app = typer.Typer(
    name="annotations", help="What readers said of slides: export, agreement, import, users.", no_args_is_help=True
)

Store = Annotated[Path, typer.Argument(metavar="STORE", help="annotations.sqlite, or the folder that holds it.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier export wrote.")]


class ExportFormat(StrEnum):
    """What annotations are written as."""

    COHORT = "cohort"
    GEOJSON = "geojson"
    COCO = "coco"


@app.command()
def export(
    store: Store,
    out: Annotated[Path, typer.Option("--out", help="Folder to write to; of coco, the file.")],
    form: Annotated[
        ExportFormat, typer.Option("--format", help="cohort: to train on; geojson: for QuPath; coco.")
    ] = ExportFormat.COHORT,
    slides: Annotated[
        Path | None,
        typer.Option(
            help="Where the slides are: results of `screen`, a cohort, or a manifest (which may say patient, "
            "centre and split). Default: the folder of STORE."
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write what was reviewed as a cohort that the bundles train on, as GeoJSON for QuPath, or as COCO."""
    from stride_monai.annotations import AnnotationStore

    write = {ExportFormat.COHORT: _cohort, ExportFormat.COCO: _coco, ExportFormat.GEOJSON: _geojson}[form]
    with AnnotationStore(store, create=False) as opened:
        write(opened, slides or opened.path.parent, out, overwrite)


def _cohort(store: AnnotationStore, slides: Path, out: Path, overwrite: bool) -> None:
    from stride_monai.annotations import export_store

    facts = export_store(store, slides, out, overwrite)
    counts = facts["counts"]
    _say(f"{counts['images']} images, {counts['cells']} cells ({_listed(counts['cells_by_label'])})")
    _say(f"of all cells shown: {_listed(counts['cells_by_state'])}")
    for warning in facts["warnings"]:
        say(f"[yellow]note[/yellow] {plain(warning)}")
    _say(f"cohort {out}")


def _coco(store: AnnotationStore, slides: Path, out: Path, overwrite: bool) -> None:
    from stride_monai.annotations import AnnotationError, coco_text, is_reviewed, slides_of
    from stride_monai.annotations.tables import write_ours
    from stride_monai.slides import open_slide

    records = {record.slide_id: record for record in slides_of(slides)}
    reviewed = [state for state in map(store.state, store.slide_ids()) if is_reviewed(state)]
    sizes: dict[str, tuple[int, int]] = {}
    for state in reviewed:
        record = records.get(state.slide_id)
        if record is None:
            raise AnnotationError(f"nobody says where the slide '{state.slide_id}' is", "name its results by --slides")
        with open_slide(record.path, mpp=record.mpp) as slide:
            sizes[state.slide_id] = slide.width, slide.height
    text = coco_text(reviewed, {name: record.path for name, record in records.items()}, sizes)
    write_ours(out, text.encode(), "cells reviewed with stride-monai", overwrite)
    _say(f"{len(reviewed)} images in {out}")


def _geojson(store: AnnotationStore, slides: Path, out: Path, overwrite: bool) -> None:
    from stride_monai.annotations import geojson_text
    from stride_monai.annotations.tables import write_ours

    ids = store.slide_ids()
    for slide_id in ids:
        text = geojson_text(store.state(slide_id))
        write_ours(out / f"{slide_id}.geojson", text.encode(), '"stride_monai"', overwrite)
    _say(f"{len(ids)} files in {out}: drop each onto its slide in QuPath")


@app.command()
def agreement(
    store: Store,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for readers.csv and agreement.csv.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Show what each reader did and how long it took, and how far readers agree (Cohen's and Fleiss' kappa)."""
    from stride_monai.annotations import AnnotationStore
    from stride_monai.annotations import agreement as agreement_of

    with AnnotationStore(store, create=False) as opened:
        states = [opened.state(slide_id) for slide_id in opened.slide_ids()]
        found = agreement_of(states, opened.actions())
    _show(found)
    if out is not None:
        from stride_monai.annotations.tables import write_agreement

        write_agreement(found, out, overwrite)
        _say(f"tables in {out}")


def _show(found: Agreement) -> None:
    table = Table("reader", "cells", "blind", "added", "slides", "minutes", "s per cell", "as settled")
    for one in found.readers:
        counts = map(str, (one.cells, one.blind, one.added, one.slides))
        settled = f"{_share(one.as_settled)} of {one.settled}" if one.settled else ""
        table.add_row(plain(one.who), *counts, f"{one.seconds / 60:.1f}", _number(one.seconds_per_cell), settled)
    out_console.print(table)
    table = Table("of", "readers", "items", "agree", "kappa", "")
    for pair in found.pairs:
        both = plain(f"{pair.one} and {pair.other}")
        table.add_row(pair.of, both, str(pair.items), _share(pair.agree), _kappa(pair.kappa), "Cohen")
    for group in found.groups:
        of = f"any {group.readers}"
        table.add_row(group.of, of, str(group.items), "", _kappa(group.kappa), "Fleiss")
    if table.row_count:
        out_console.print(table)
    else:
        _say("nothing was read by two readers")


@app.command("import")
def import_(
    store: Store,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="GeoJSON, each called after its slide.")],
    annotator: Annotated[str, typer.Option("--annotator", help="Name of the reader who corrected them.")],
    confirm: Annotated[
        bool, typer.Option("--confirm", help="The reader looked at every cell: classes left as shown are reads too.")
    ] = False,
    deleted: Annotated[
        bool, typer.Option("--deleted-are-no-lesions", help="Cells that a file lacks were deleted as false positives.")
    ] = False,
    slide: Annotated[str | None, typer.Option(help="Id of the slide, where the file is called otherwise.")] = None,
) -> None:
    """Take corrected GeoJSON in as the actions of one reader. Giving the same file again changes nothing."""
    from stride_monai.annotations import AnnotationStore

    if slide is not None and len(files) > 1:
        raise ConfigError("--slide names one slide, and there are several files", "give them one by one")
    with AnnotationStore(store, create=False) as opened:
        for file in files:
            counts = _take(opened, file, slide or _stem(file), annotator, confirm, deleted)
            _say(f"{file.name}: {_listed(counts) or 'nothing in it'}")


def _take(
    opened: AnnotationStore, file: Path, slide_id: str, who: str, confirm: bool, deleted: bool
) -> Mapping[str, int]:
    from stride_monai.annotations import AnnotationError, corrections
    from stride_monai.geojson import features_of_bytes

    known = opened.slide_ids()
    if slide_id not in known:
        raise AnnotationError(f"{file.name}: the annotations have no slide '{slide_id}'", "name it by --slide")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise AnnotationError(f"{file} cannot be read ({error.strerror})", "check its name") from error
    features = features_of_bytes(content, file.name)
    made = corrections(opened.state(slide_id), features, who, file.name, confirm, deleted)
    opened.append_all(made.actions)
    return made.counts


def _stem(file: Path) -> str:
    name = file.name.removesuffix(".gz")
    return name.removesuffix(".json").removesuffix(".geojson")


@app.command()
def users(
    file: Annotated[Path, typer.Argument(metavar="USERS", help="The file of users; made by the first --add.")],
    add: Annotated[str | None, typer.Option("--add", metavar="NAME", help="Add a user; asks for the password.")] = None,
    admin: Annotated[bool, typer.Option("--admin", help="With --add: may settle, export and retrain.")] = False,
    remove: Annotated[str | None, typer.Option("--remove", metavar="NAME", help="Remove a user.")] = None,
    password: Annotated[
        str | None, typer.Option("--password", metavar="NAME", help="Set a new password; tokens end.")
    ] = None,
    token: Annotated[
        str | None, typer.Option("--token", metavar="NAME", help="Issue a token, for programs; shown this once.")
    ] = None,
    days: Annotated[float, typer.Option(min=0.01, help="With --token: days that it is good for.")] = 90.0,
    revoke: Annotated[str | None, typer.Option("--revoke", metavar="NAME", help="End all tokens of a user.")] = None,
) -> None:
    """List, add or remove users of the review page and of the label server.

    A password is asked for, or read as one line from standard input; only its hash (scrypt) is kept.
    """
    from stride_monai.annotations import Role, Users

    asked = [name for name in (add, remove, password, token, revoke) if name is not None]
    if len(asked) > 1:
        raise ConfigError("one change at a time", "give one of --add, --remove, --password, --token, --revoke")
    known = Users(file)
    if add is not None:
        known.add(add, _password(), Role.ADMIN if admin else Role.ANNOTATOR)
    elif remove is not None:
        known.remove(remove)
    elif password is not None:
        known.set_password(password, _password())
    elif revoke is not None:
        known.revoke_tokens(revoke)
    elif token is not None:
        issued = known.issue_token(token, days)
        say("keep it: it is shown this once", err_console)
        typer.echo(issued)
        return
    table = Table("user", "role")
    for user in known.all():
        table.add_row(plain(user.name), user.role.value)
    out_console.print(table)


def _password() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")


def _say(text: str) -> None:
    say(plain(text))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in Counter(counts).items() if count)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _kappa(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"
