"""The first thing that a user sees."""

from __future__ import annotations

from typer.testing import CliRunner

from stride_monai.cli.main import app


def test_commands_stand_in_panels_in_the_order_of_a_users_way() -> None:
    done = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120", "TERM": "dumb"})
    assert done.exit_code == 0
    places = [done.output.index(f" {panel} ") for panel in ("Screen", "Review", "Evaluate", "Data and training")]
    assert places == sorted(places)


def test_no_command_is_left_outside_a_panel() -> None:
    listed = [*app.registered_commands, *app.registered_groups]
    assert len(listed) >= 14
    assert not [one for one in listed if not isinstance(one.rich_help_panel, str)]
