"""MONAI's workflow of a configuration: what was typed arrives as typed, and what is wrong is refused.

MONAI's command line loses what it cannot read (``--dataset_dir 'cohort#2'`` is ``cohort``) and adds an override that it
does not know (``--max_epoch 1``) to the configuration, where nobody reads it. Here the one arrives as typed and the
other is refused, on both ways to run a bundle:

- ``python -m monai.bundle run``: the first entry of ``initialize`` in every bundle is :func:`check_overrides`;
- ``python -m monai.bundle run_workflow --workflow_name stride_monai.workflows.StrideWorkflow``.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from stride_monai.errors import ConfigError, StrideError
from stride_monai.workflows.messages import how_to_go_on, print_one_line, refuse, say_the_reason, stop_with_one_line
from stride_monai.workflows.outputs import guard_outputs
from stride_monai.workflows.settle import OPTIONS, Given, settle, settled
from stride_monai.workflows.typed import is_command, typed_options
from stride_monai.workflows.values import file_option

__all__ = ["StrideWorkflow", "check_overrides"]


class StrideWorkflow(ConfigWorkflow):
    """MONAI's ``ConfigWorkflow``, in which overrides arrive as typed and unknown ones are refused.

    Raises:
        ConfigError: an override names nothing; the message has the nearest name that exists. Or its value is none of
            the option's, or the configuration files stand in the wrong order.
    """

    def __init__(self, config_file: str | Sequence[str], *args: Any, **kwargs: Any) -> None:
        if is_command():
            print_one_line()
        typed = typed_options()
        options = {name: file_option(text) for name, text in typed.items() if name in OPTIONS}
        config_file = options.pop("config_file", config_file)
        kwargs |= {name: value for name, value in options.items() if name not in {"workflow_name", "args_file"}}
        overrides = {name: kwargs.pop(name) for name in list(kwargs) if name not in OPTIONS}
        given = Given(config_file, overrides, kwargs.get("tracking"))
        super().__init__(config_file, *args, **kwargs, **settled(given, typed))
        self.given = given
        settle(self, given, typed)


def check_overrides() -> None:
    """First entry of every bundle's ``initialize``: what was typed arrives, what is wrong is refused.

    Overrides get the text that was typed, misspelt ones are refused, so are configuration files in the wrong order and
    a ``bundle_root`` that is no bundle. ``monai.bundle.run`` hands neither the parser nor the file list to a
    configuration, so they are looked up in the frames that called this function. Where the file list is not found
    there, all files of the configs folder count.

    Raises:
        ConfigError: something is refused. The workflow raises it unwrapped, as it does from here on with every error of
            the package; a ``python -m monai.bundle`` process prints its line alone.
    """
    if is_command():
        print_one_line()
    workflow, given, summary, waits = _running_workflow()
    if workflow is None:
        raise ConfigError("check_overrides() is called outside a bundle workflow", "use refuse_unknown() instead")
    say_the_reason(workflow)
    if is_command():
        stop_with_one_line(how_to_go_on(workflow.parser.get()))
    try:
        typed = typed_options()
        meant = settle(workflow, given, typed)
        summary.update({name: value for name, value in meant.items() if name in typed})
        _check_root(Path(str(workflow.parser.get_parsed_content("bundle_root"))))
        guard_outputs(workflow)
    except StrideError as error:
        if not waits:
            raise
        refuse(workflow, error)


def _running_workflow() -> tuple[ConfigWorkflow | None, Given, dict[str, Any], bool]:
    """The workflow that is being initialized, what it was given, the same as MONAI will print it, and whether the
    workflow runs its ``initialize`` itself."""
    workflow: ConfigWorkflow | None = None
    given, waits = Given(), False
    arguments: dict[str, Any] = {}
    frame = inspect.currentframe()
    while frame is not None:
        name, values = frame.f_code.co_name, frame.f_locals
        if isinstance(values.get("self"), ConfigWorkflow):
            workflow = workflow or values["self"]
            waits = waits or name == "_run_expr"
        elif frame.f_globals.get("__name__") == "monai.bundle.scripts" and name == "create_workflow":
            arguments = values.get("_args", {})
            overrides = {name: value for name, value in arguments.items() if name not in OPTIONS}
            given = Given(values.get("config_file"), overrides, arguments.get("tracking"))
        frame = frame.f_back
    if isinstance(workflow, StrideWorkflow):
        given = workflow.given
    return workflow, given, arguments, waits


def _check_root(root: Path) -> None:
    if not (root / "configs" / "metadata.json").is_file():
        raise ConfigError(f"{root.absolute()} is no bundle", "pass --bundle_root with the bundle's folder")
