"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.main import get_command
from typer.testing import CliRunner

from stride_monai.cli.grouped import with_groups
from stride_monai.cli.main import app
from stride_monai.errors import ConfigError


@dataclass(frozen=True)
class Sizes:
    height: Annotated[int, typer.Option(help="How high.")]
    width: Annotated[int, typer.Option("-w", "--width", help="How wide.")] = 3

    def __post_init__(self) -> None:
        if self.width > 9:
            raise ConfigError("too wide", "give 9 or less")


def options_of(name: str) -> dict[str, object]:
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    return {option.name: (option.opts, option.default, option.help) for option in command.params}


def test_fields_of_a_group_are_options_and_the_command_gets_the_group() -> None:
    seen: list[tuple[str, Sizes, bool]] = []
    own = typer.Typer()

    @own.command()
    @with_groups
    def draw(name: Annotated[str, typer.Argument()], sizes: Sizes, loud: bool = False) -> None:
        """Draw it."""
        seen.append((name, sizes, loud))

    runner = CliRunner()
    assert runner.invoke(own, ["a", "--height", "2", "-w", "4", "--loud"]).exit_code == 0
    assert runner.invoke(own, ["b", "--height", "2"]).exit_code == 0
    assert seen == [("a", Sizes(2, 4), True), ("b", Sizes(2, 3), False)]
    assert runner.invoke(own, ["c"]).exit_code == 2, "an option without a default is required"
    assert isinstance(runner.invoke(own, ["d", "--height", "2", "-w", "10"]).exception, ConfigError)
    assert "Draw it." in runner.invoke(own, ["--help"]).output


def test_watch_takes_the_settings_of_screen() -> None:
    screen, watch = options_of("screen"), options_of("watch")
    settings = {name for name in watch if name not in ("folder", "port", "every", "settle")}
    assert {"mpp", "runtime", "rerank", "classifier", "quality", "out"} <= settings
    assert {name: watch[name] for name in settings} == {name: screen[name] for name in settings}
    run = {"slides", "slide_timeout", "slide_memory", "writers", "overwrite", "retry_failed", "workers", "cluster"}
    assert screen.keys() - settings == run | {"mirror", "dry_run", "profile_stages"}
