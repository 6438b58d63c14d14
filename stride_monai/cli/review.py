"""``stride-monai review``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stride_monai.cli.terminal import plain, say
from stride_monai.errors import ConfigError, MissingExtraError
from stride_monai.findings import GALLERY_SIZE

__all__ = ["review"]


def review(
    results: Annotated[Path, typer.Argument(help="Folder that `stride-monai screen` wrote.")],
    studies: Annotated[Path, typer.Option("--studies", help="Folder of the slide files.")],
    store: Annotated[
        Path | None, typer.Option("--store", help="File of the annotations; annotations.sqlite in the results.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; any but this machine's own needs --users.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8040,
    users: Annotated[
        Path | None, typer.Option("--users", help="Who may sign in: a file of `stride-monai annotations users`.")
    ] = None,
    blind: Annotated[bool, typer.Option("--blind", help="Show no class, score or call of the model.")] = False,
    double_read: Annotated[
        bool, typer.Option("--double-read", help="With --users: two readers read each cell, not one.")
    ] = False,
    cells: Annotated[int, typer.Option(min=1, help="Cells of each slide, the first by rank.")] = GALLERY_SIZE,
    name: Annotated[str, typer.Option(help="Without --users: the name that annotations bear.")] = "reader",
) -> None:
    """The page on which pathologists confirm, correct and add cells. It works without internet. Ctrl-C ends it."""
    try:
        from stride_monai.review import check_host, create_app, free_socket, serve
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "fastapi", "review", "the review page") from error
    if double_read and users is None:
        raise ConfigError("--double-read needs readers with names of their own", "give --users FILE")
    check_host(host, users is not None)
    if users is not None and not users.is_file():
        raise ConfigError(f"there is no file of users at {users}", "make one with `stride-monai annotations users`")
    app = create_app(
        results, studies, store, users=users, blind=blind, double_read=double_read, cells=cells, reader=name
    )
    listening = free_socket(host, port)
    shown = f"[{host}]" if ":" in host else host
    say(f"review page at http://{plain(shown)}:{listening.getsockname()[1]}/ (Ctrl-C ends it)")
    serve(app, listening)
