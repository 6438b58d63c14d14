"""MONAI's workflow of a configuration, without silent misspellings; see :mod:`stride_monai.workflows.overrides`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.bundle import ConfigWorkflow

from stride_monai.workflows.messages import print_one_line
from stride_monai.workflows.settle import OPTIONS, Given, settle, settled
from stride_monai.workflows.typed import is_command, typed_options
from stride_monai.workflows.values import file_option

__all__ = ["StrideWorkflow"]


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
