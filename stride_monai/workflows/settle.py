"""A workflow's configuration as its user means it: files in order, overrides as typed, nothing that nobody reads."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

from monai.bundle import ConfigParser, ConfigWorkflow, run, run_workflow
from monai.bundle.scripts import create_workflow
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS
from monai.utils import ensure_tuple

from stride_monai.errors import ConfigError
from stride_monai.workflows.overlays import NEEDS, check_order
from stride_monai.workflows.typed import has_comment, parsed
from stride_monai.workflows.unknown import refuse_unknown
from stride_monai.workflows.values import file_option, meaning, shielded, the_device

__all__ = ["OPTIONS", "Given", "settle", "settled"]

OPTIONS = {
    name
    for function in (run, run_workflow, create_workflow, ConfigWorkflow)
    for name, parameter in inspect.signature(function).parameters.items()
    if parameter.kind is not inspect.Parameter.VAR_KEYWORD
}
"""What MONAI itself reads: ``config_file``, ``run_id`` ... Everything else overrides the configuration."""

_TRACKED = "stride_monai.handlers.tracking.Tracked"
_HANDLERS = {"trainer": "train#handlers", "validator": "validate#handlers", "evaluator": "handlers"}
_DUMPED = re.compile(r"config_\d{8}_\d{6}\.json")


class Given(NamedTuple):
    """What a workflow was given; empty where it is not known.

    Attributes:
        config_file: one file or several.
        overrides: as Python values.
        tracking: MONAI's option: a name, a file, or settings.
    """

    config_file: str | Sequence[str] | None = None
    overrides: Mapping[str, Any] | None = None
    tracking: Any = None

    @property
    def files(self) -> list[str]:
        """The configuration files."""
        if not self.config_file:
            return []
        if isinstance(self.config_file, str) and not Path(self.config_file).is_file() and "," in self.config_file:
            return self.config_file.split(",")
        return [str(file) for file in ensure_tuple(self.config_file)]


def settled(given: Given, typed: Mapping[str, str | None]) -> dict[str, Any]:
    """The overrides as they are meant, before there is a workflow.

    Raises:
        ConfigError: the files stand in the wrong order, or an override is wrong.
    """
    check_order(given.files)
    known = ConfigParser.load_config_files(given.files)
    parser = ConfigParser(ConfigParser.load_config_files(given.files))
    overrides = {**{name: None for name in typed if name not in OPTIONS}, **(given.overrides or {})}
    for name, value in overrides.items():
        if not re.match("_meta_(#|::)", name):  # of metadata.json, which is not read yet
            _set(parser, name, value)
    refuse_unknown(parser.get(), _with_tracking(known, parser.get(), given))
    return {name: shielded(value) for name, value in _meant(known, given, typed).items()}


def settle(workflow: ConfigWorkflow, given: Given, typed: Mapping[str, str | None]) -> dict[str, Any]:
    """Give a workflow's configuration the values that are meant, and refuse what is wrong.

    Args:
        workflow: with its files and overrides read. Where nothing is known of them, all files of its folder count.
        given: what it was given.
        typed: the command line (:func:`~stride_monai.workflows.typed.typed_options`).

    Returns:
        the overrides as they are meant.

    Raises:
        ConfigError: something is refused; see :class:`~stride_monai.workflows.StrideWorkflow`.
    """
    parser = workflow.parser
    plain = not hasattr(workflow, "given")  # else it has read its options as typed
    if plain:
        _check_options(typed)
    check_order(given.files)
    others = [] if given.files else _all_configs(Path(workflow.config_root_path))
    known = ConfigParser.load_config_files(given.files or others)
    for name in typed:
        if name not in OPTIONS and name not in parser:  # MONAI leaves out an override that is None
            _set(parser, name, None)
    refuse_unknown(
        parser.get(),
        _with_tracking(known, parser.get(), given),
        [ConfigParser.load_config_file(file) for file in others],
    )
    if plain:
        _refuse_lost(parser.get(), known, given, typed)
    dumped = _dumped(parser)
    meant = _meant(known, given, typed)
    _apply(parser, known, meant, given.overrides or {})
    if given.files:
        _copy_again(parser, known)
    the_device(parser.get("device"))
    if dumped is not None:
        _dump_again(parser, dumped)
    _adapt_tracking(parser, known, given)
    parser.ref_resolver.reset()
    return meant


def _check_options(typed: Mapping[str, str | None]) -> None:
    """MONAI has read its own options by now: say it if it read another text than the one that was typed."""
    for name, text in typed.items():
        if name not in OPTIONS or text is None:
            continue
        meant, read = file_option(text), parsed(text)
        if meant != read and (has_comment(text) or not isinstance(read, list | tuple | dict)):
            raise ConfigError(
                f"MONAI reads '--{name} {text}' as {read!r}",
                f"write --{name} '\"{text}\"', or use run_workflow with stride_monai.workflows.StrideWorkflow",
            )


def _meant(known: Mapping[str, Any], given: Given, typed: Mapping[str, str | None]) -> dict[str, Any]:
    """The overrides by name."""
    same = {name.replace("::", "#") for name in typed}
    values = {n: value for n, value in (given.overrides or {}).items() if n.replace("::", "#") not in same}
    values |= {name: meaning(name, text, known) for name, text in typed.items() if name not in OPTIONS}
    order = [*(given.overrides or {}), *typed]
    return {name: values[name] for name in dict.fromkeys(order) if name in values}


def _apply(
    parser: ConfigParser, known: Mapping[str, Any], meant: Mapping[str, Any], overrides: Mapping[str, Any]
) -> None:
    """Put the overrides, and texts of the files that MONAI changes, into a configuration."""
    for name, text in _texts(known, ()):
        if text != shielded(text) and parser.get(name) in (text, text.replace("#", "::")):
            parser[name] = shielded(text)
    for name, value in meant.items():
        if isinstance(value, Mapping) and shielded(value) == overrides.get(name):
            continue  # what was given within a component by an override of its own stays
        before, now = parser.get(name), shielded(value)
        if before != now or type(before) is not type(now):
            _set(parser, name, now)


def _copy_again(parser: ConfigParser, known: Mapping[str, Any]) -> None:
    """Copy anew what macros (``%name``) name: MONAI has copied it before the options in it were as they were typed."""
    for name, text in _texts(known, ()):
        copied = parser.get(text[1:]) if re.fullmatch(r"%\w+", text) else None
        if isinstance(copied, Mapping) and isinstance(parser.get(name), Mapping):
            parser[name] = deepcopy(copied)


def _refuse_lost(
    config: Mapping[str, Any], known: Mapping[str, Any], given: Given, typed: Mapping[str, str | None]
) -> None:
    """Refuse texts of Python's overrides in which MONAI has replaced ``#`` by now and that can be seen nowhere else.

    Those are all of a plain ``ConfigWorkflow``, and of :func:`monai.bundle.run` those in lists and dictionaries.
    """
    texts = dict(_texts(known, ()))
    if given.overrides is None:
        seen: Mapping[str, Any] = {} if typed else {key: value for key, value in config.items() if key != "_meta_"}
    else:
        seen = {n: v for n, v in given.overrides.items() if n not in typed and not isinstance(v, str)}
    for name, text in _texts(seen, ()):
        if "::" in text and not text.startswith(("$", "@", "%")) and texts.get(name, "").replace("#", "::") != text:
            raise ConfigError(
                f"MONAI has put '::' in the place of '#' in {name} '{text}'",
                "use stride_monai.workflows.StrideWorkflow instead of ConfigWorkflow",
            )


def _texts(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Every text of a configuration with its name."""
    if isinstance(value, str):
        yield "#".join(path), value
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _texts(item, (*path, str(key)))


def _set(parser: ConfigParser, name: str, value: Any) -> None:
    try:
        parser[name] = value
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise ConfigError(f"unknown option '--{name.replace('::', '#')}'", "it stands in no component") from error


def _all_configs(folder: Path) -> list[str]:
    whole = [folder / "inference.json", folder / "train.json"]  # the others are overlays and come after them
    overlays = [path for path in sorted(folder.glob("*.json")) if path not in whole and path.name != "metadata.json"]
    overlays.sort(key=lambda path: NEEDS in ConfigParser.load_config_file(str(path)))
    return [str(path) for path in (*whole, *overlays) if path.is_file()]


def _tracking(given: Given) -> Mapping[str, Any]:
    """The settings of MONAI's option ``tracking``."""
    if given.tracking is None:
        return {}
    if isinstance(given.tracking, str) and given.tracking in DEFAULT_EXP_MGMT_SETTINGS:
        return dict(DEFAULT_EXP_MGMT_SETTINGS[given.tracking])
    return dict(ConfigParser.load_config_files(given.tracking))


def _with_tracking(known: Mapping[str, Any], config: Mapping[str, Any], given: Given) -> dict[str, Any]:
    """The files' configuration and what tracking has added to it."""
    settings = _tracking(given)
    engines = settings.get("handlers_id", {})
    added = {key: value for key, value in settings.get("configs", {}).items() if key not in engines}
    if given.tracking is not None:
        added.setdefault("save_execute_config", True)
    elif given.overrides is None and "save_execute_config" in config:  # tracking, of which nothing else is known
        added = dict(config)
    return {**added, **known}


def _adapt_tracking(parser: ConfigParser, known: Mapping[str, Any], given: Given) -> None:
    """Let the handlers that tracking has added understand what our engines put out."""
    if "save_execute_config" not in parser:
        return
    engines = _tracking(given).get("handlers_id", {})
    before = ConfigParser(dict(known))
    for name in {*_HANDLERS.values(), *(engine["handlers"] for engine in engines.values())}:
        handlers = parser.get(name)
        if not isinstance(handlers, list):
            continue
        for place in range(len(before.get(name) or ()), len(handlers)):
            handler = handlers[place]
            if isinstance(handler, dict) and handler.get("_target_") != _TRACKED:
                inner = {key: value for key, value in handler.items() if key != "_disabled_"}
                disabled = handler.get("_disabled_", False)
                handlers[place] = {"_target_": _TRACKED, "_disabled_": disabled, "handler": inner}


def _dumped(parser: ConfigParser) -> Path | None:
    """The file in which MONAI's tracking has just saved the configuration, where it chose the name."""
    name = _DUMPED.search(str(parser.get("save_execute_config")))
    return None if name is None else Path(str(parser.get_parsed_content("output_dir"))) / name[0]


def _dump_again(parser: ConfigParser, dumped: Path) -> None:
    """Save the configuration again as it is meant, and where, and let the tracker find it."""
    parser.ref_resolver.reset()
    parser["save_execute_config"] = f"$@output_dir + '/{dumped.name}'"
    path = Path(str(parser.get_parsed_content("output_dir"))) / dumped.name
    path.parent.mkdir(parents=True, exist_ok=True)
    ConfigParser.export_config_file(parser.get(), str(path))
    if path != dumped:
        with suppress(OSError):  # made by this process a moment ago; its folder goes where it was made for it
            dumped.unlink()
            dumped.parent.rmdir()
