"""What the text of an override means: as typed where a text is wanted, a number where a number is.

Of what kind an option is, its value in the configuration says; an expression or a reference is looked through.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping
from pydoc import locate
from typing import Any

import torch

from stride_monai.errors import ConfigError
from stride_monai.workflows.typed import parsed, reads_as_typed

__all__ = ["at", "file_option", "kind_of", "meaning", "shielded", "the_device"]

TEXT, NUMBER, TRUTH, LIST, COMPONENT = "text", "a number", "True or False", "a list", "a component"
_HOW = {
    LIST: "texts within lists stand in quotes",
    COMPONENT: "write a dictionary with texts in quotes, or set a part of it, such as --{0}#_disabled_ True",
}
_REFERENCE = re.compile(r"@(\w*(?:::\w*)*)")
_CALLS = {
    **dict.fromkeys(("str", "torch.device"), TEXT),
    **dict.fromkeys(("len", "max", "min", "round", "int", "float", "sum", "abs"), NUMBER),
    **dict.fromkeys(("bool", "any", "all", "torch.cuda.is_available"), TRUTH),
    **dict.fromkeys(("list", "tuple", "sorted"), LIST),
}


def meaning(name: str, text: str | None, known: Mapping[str, Any]) -> Any:
    """The value that an override is to have.

    Args:
        name: of the option, e.g. ``train#trainer#max_epochs``.
        text: as typed; None where there was only the name.
        known: the configuration of the files.

    Raises:
        ConfigError: the text is nothing of the option's kind, or can be read in two ways where the kind is not known.
    """
    kind = kind_of(name, known)
    if text is None:
        if kind in (TRUTH, None):
            return True
        raise ConfigError(f"'--{name}' has no value", f"write --{name}=VALUE where the value begins with '-'")
    if text.startswith(("$", "@", "%")):  # the configuration's own language
        return text
    if kind is TEXT:
        return _quoted_list(text) or text
    value = parsed(text)
    if kind is NUMBER:
        if value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool) and "#" not in text:
            whole = isinstance(at(known, name), int) and isinstance(value, float) and value.is_integer()
            return int(value) if whole else value
    elif kind is TRUTH:
        truths = {"true": True, "false": False, "1": True, "0": False, "none": None}
        if text.strip().lower() in truths:
            return truths[text.strip().lower()]
    elif kind is LIST:
        texts = all(isinstance(item, str) for item in at(known, name) or [None])
        if isinstance(value, list | tuple) and _is_certain(text, value, texts):
            return list(value)
        if _quoted(text) is None and not texts and value is None:
            return None
    elif kind is COMPONENT:
        if isinstance(value, Mapping) and reads_as_typed(text):
            return value
        if text == "None":
            return None
    elif (value == text or _quoted(text) == value) if isinstance(value, str) else reads_as_typed(text):
        return value
    if kind is None:
        raise ConfigError(
            f"'--{name} {text}' can be read in two ways", f"write '\"{text}\"' for a text, or {value!r} for that value"
        )
    raise ConfigError(f"'--{name} {text}': the option takes {kind}", _HOW.get(kind, "").format(name))


def _is_certain(text: str, value: Any, texts: bool) -> bool:
    if _quoted_list(text) is not None:
        return True
    return "#" not in text and all(isinstance(item, str) for item in value if texts)


def _quoted(text: str) -> str | None:
    """What stands in the quotes, of a text that is a quoted text and nothing else."""
    value = _literal(text)
    return value if isinstance(value, str) else None


def _quoted_list(text: str) -> list[str] | None:
    """A list of quoted texts and nothing else."""
    value = _literal(text)
    if isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
        return list(value)
    return None


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text) if text[:1] in "\"'[(" and text[-1:] in "\"'])" else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def file_option(text: str | None) -> Any:
    """The value of an option of MONAI itself (``config_file``, ``run_id`` ...): a text or several, False or None."""
    if text is None:
        return True
    if text in ("None", "False", "True"):
        return {"None": None, "False": False, "True": True}[text]
    return _quoted_list(text) or _quoted(text) or text


def kind_of(name: str, known: Mapping[str, Any]) -> str | None:
    """Of what kind an option of a configuration is; None where nothing says."""
    parts = re.split("#|::", name)
    if (kind := _kind(at(known, name), known, {name})) is not None:
        return kind
    return _annotated(at(known, "#".join(parts[:-1])), parts[-1]) or _used_as(known, "@" + "::".join(parts))


def _kind(value: Any, known: Mapping[str, Any], seen: set[str]) -> str | None:
    if isinstance(value, bool):
        return TRUTH
    if isinstance(value, int | float):
        return NUMBER
    if isinstance(value, list):
        paths = [isinstance(item, str) and item.startswith("$") and _kind(item, known, seen) is TEXT for item in value]
        return TEXT if value and all(paths) else LIST  # weights are a file or several
    if isinstance(value, Mapping):
        return COMPONENT
    if not isinstance(value, str):
        return None
    text = value.replace("#", "::")
    if _REFERENCE.fullmatch(text):
        return _kind_of_reference(text[1:], known, seen)
    if not text.startswith("$"):
        return None if text.startswith("%") else TEXT
    try:
        tree = ast.parse(_REFERENCE.sub(lambda match: "_at_" + match[1].replace("::", "__at__"), text[1:]), mode="eval")
    except SyntaxError:
        return None
    return _kind_of_node(tree.body, known, seen)


def _kind_of_reference(name: str, known: Mapping[str, Any], seen: set[str]) -> str | None:
    if name in seen:
        return None
    value = at(known, name)
    return None if value is None else _kind(value, known, {*seen, name})


def _kind_of_node(node: ast.expr, known: Mapping[str, Any], seen: set[str]) -> str | None:
    match node:
        case ast.Constant(value=constant):
            return _kind(constant, known, seen) if not isinstance(constant, str) else TEXT
        case ast.JoinedStr():
            return TEXT
        case ast.Name(id=name) if name.startswith("_at_"):
            return _kind_of_reference(name.removeprefix("_at_").replace("__at__", "::"), known, seen)
        case ast.BinOp(left=left, right=right):
            kinds = {_kind_of_node(left, known, seen), _kind_of_node(right, known, seen)}
            return TEXT if TEXT in kinds else NUMBER if NUMBER in kinds else None
        case ast.UnaryOp(op=op, operand=operand):
            return TRUTH if isinstance(op, ast.Not) else _kind_of_node(operand, known, seen)
        case ast.Compare():
            return TRUTH
        case ast.IfExp(body=body, orelse=orelse):
            return _kind_of_node(body, known, seen) or _kind_of_node(orelse, known, seen)
        case ast.List() | ast.Tuple() | ast.ListComp():
            return LIST
        case ast.Call(func=function):
            name = ast.unparse(function)
            return _CALLS.get(name) or _returned(name, known)
        case _:
            return None


def at(config: Any, name: str) -> Any:
    """The value at a path, or None."""
    for part in re.split("#|::", name) if name else []:
        if isinstance(config, list) and part.isdigit() and int(part) < len(config):
            config = config[int(part)]
        else:
            config = config.get(part) if isinstance(config, Mapping) else None
    return config


def _annotated(component: Any, argument: str) -> str | None:
    """The kind of an argument that a component of the configuration takes."""
    if not isinstance(component, Mapping) or "_target_" not in component:
        return None
    signature = _signature(str(component["_target_"]))
    if signature is None or argument not in signature.parameters:
        return None
    return _kind_of_annotation(signature.parameters[argument].annotation)


def _returned(function: str, known: Mapping[str, Any]) -> str | None:
    """The kind of what a function of a module that the configuration imports returns."""
    alias, _, name = function.rpartition(".")
    for line in known.get("imports", ()):
        match = re.fullmatch(r"\$import (\S+)(?: as (\w+))?", str(line))
        if alias and match and (match[2] or match[1]) == alias:
            signature = _signature(f"{match[1]}.{name}")
            return None if signature is None else _kind_of_annotation(signature.return_annotation)
    return None


def _signature(name: str) -> inspect.Signature | None:
    try:
        return inspect.signature(locate(name))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _kind_of_annotation(annotation: Any) -> str | None:
    words = set(re.findall(r"\w+", annotation.__name__ if isinstance(annotation, type) else str(annotation)))
    kinds = {TEXT: {"str", "Path", "PathLike", "device"}, TRUTH: {"bool"}, NUMBER: {"int", "float"}}
    found = [kind for kind, names in kinds.items() if words & names]
    return found[0] if len(found) == 1 and not words & {"Sequence", "list", "Mapping", "dict", "Callable"} else None


def _used_as(config: Any, reference: str) -> str | None:
    """The kind of an option that is null in the configuration: that of the argument that it is handed to."""
    items = config.items() if isinstance(config, Mapping) else enumerate(config) if isinstance(config, list) else ()
    for key, value in items:
        if isinstance(value, str) and value.replace("#", "::") == reference:
            if (kind := _annotated(config, str(key))) is not None:
                return kind
        elif (kind := _used_as(value, reference)) is not None:
            return kind
    return None


def shielded(value: Any) -> Any:
    """A value as the configuration has to hold it: MONAI replaces ``#`` by ``::`` in every text, also in paths."""
    if isinstance(value, Mapping):
        return {key: shielded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shielded(item) for item in value]
    if not isinstance(value, str) or value.startswith(("$", "@", "%")) or not re.search("#|[@%]::", value):
        return value
    escaped = repr(value)
    for letter in "#@%":
        escaped = escaped.replace(letter, f"\\x{ord(letter):02x}")
    return "$" + escaped


def the_device(value: Any) -> Any:
    """A device of the configuration, checked where it is named by a text.

    Raises:
        ConfigError: there is no such device.
    """
    if not isinstance(value, str) or value.startswith(("$", "@", "%")):
        return value
    try:
        device = torch.device(value)
        there = device.type != "cuda" or (device.index or 0) < torch.cuda.device_count()
    except (RuntimeError, ValueError):
        there = False
    if not there:
        gpus = torch.cuda.device_count()
        raise ConfigError(
            f"unknown device '{value}'",
            "use cpu" + (f", or cuda:0 to cuda:{gpus - 1}" if gpus else ": no GPU is seen"),
        )
    return value
