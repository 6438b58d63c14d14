"""The command line, ``stride-monai``. Heavy imports are inside the commands, so that ``--help`` is instant."""

from __future__ import annotations

from typing import Annotated

import typer

from stride_monai.cli.annotations import app as annotations_app
from stride_monai.cli.bundle import app as bundle_app
from stride_monai.cli.classify import classify
from stride_monai.cli.data import app as data_app
from stride_monai.cli.doctor import doctor
from stride_monai.cli.evaluate import evaluate
from stride_monai.cli.monitor import monitor
from stride_monai.cli.operating_point import operating_point
from stride_monai.cli.phantom import phantom
from stride_monai.cli.quantize import quantize
from stride_monai.cli.readers import evaluate_readers, import_reads
from stride_monai.cli.review import review
from stride_monai.cli.screen import screen
from stride_monai.cli.terminal import err_console, forgive, plain, say
from stride_monai.cli.transfer import transfer
from stride_monai.cli.watch import watch
from stride_monai.errors import StrideError
from stride_monai.guard import Stopped, stoppable

__all__ = ["app", "main"]

app = typer.Typer(
    name="stride-monai",
    help="Cervical-cytology whole slide screening on MONAI. Research use only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_PANELS = {
    "Screen": (screen, watch, classify, quantize, doctor),
    "Review": (review, annotations_app),
    "Evaluate": (evaluate, operating_point, transfer, monitor, evaluate_readers, import_reads),
    "Data and training": (data_app, phantom, bundle_app),
}
"""The commands as ``--help`` shows them: panels in the order of a user's way."""
for panel, members in _PANELS.items():
    for member in members:
        if isinstance(member, typer.Typer):
            app.add_typer(member, rich_help_panel=panel)
        else:
            app.command(rich_help_panel=panel)(member)
_GO_ON = "what is done stays; give the same command again"


def main() -> None:
    """Entry point: a :class:`StrideError` is one line on standard error and exit status 2.

    A run that is stopped (Ctrl-C, SIGTERM, SIGHUP) ends with one line that says how to go on, and with the status that
    a shell gives for the signal.
    """
    forgive()
    with stoppable():
        try:
            app()
        except StrideError as error:
            say(f"[red]error[/red] {plain(str(error))}", err_console)
            raise SystemExit(2) from None
        except Stopped as stopped:
            say(f"stopped: {plain(stopped.done or _GO_ON)}", err_console)
            raise SystemExit(stopped.exit_status) from None


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from stride_monai import __version__

        say(__version__)
        raise typer.Exit
