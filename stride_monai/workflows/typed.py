"""What the user typed after ``python -m monai.bundle run``, before the command line parser (python-fire) read it.

python-fire takes every value for Python: it drops what follows ``#``, and ``2024_05``, ``1e3``, ``None`` or ``[a]``
become numbers and objects. MONAI then sees the result alone, so the words are read here a second time.
"""

from __future__ import annotations

import io
import re
import sys
import tokenize
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stride_monai.errors import ConfigError

__all__ = ["has_comment", "is_command", "parsed", "reads_as_typed", "typed_options"]

_COMMANDS = ("run", "run_workflow")


def is_command() -> bool:
    """Whether this process is ``python -m monai.bundle``."""
    return Path(sys.argv[0]).parts[-3:] == ("monai", "bundle", "__main__.py")


def typed_options(words: Sequence[str] | None = None) -> dict[str, str | None]:
    """The options of a command line by name, each with the text that was typed.

    Args:
        words: the command line after the program; default this process's. Empty where the process is no
            ``python -m monai.bundle``, or another of its commands than ``run`` and ``run_workflow``.

    Returns:
        names as python-fire hands them on, in the order of their first mention; None for a name without a value.

    Raises:
        ConfigError: ``-`` stands alone: python-fire ends the options there.
    """
    if words is None:
        words = sys.argv[1:] if is_command() else []
    words = list(words)
    if "--" in words:  # what follows the last one is for python-fire itself
        words = words[: len(words) - 1 - words[::-1].index("--")]
    if not words or words[0] not in _COMMANDS:
        return {}
    found: dict[str, str | None] = {}
    place = 1
    while place < len(words):
        word, place = words[place], place + 1
        if word == "-":
            raise ConfigError("a '-' that stands alone ends the options", "write the value as --name=- or ./-")
        if not _is_flag(word):
            continue
        name, equals, value = word.lstrip("-").partition("=")
        name = name.replace("-", "_")
        if equals:
            found[name] = value
        elif place < len(words) and not _is_flag(words[place]):
            if words[place] == "-":
                raise ConfigError(f"'--{name} -' is not a value", f"write --{name}=- or ./-")
            found[name], place = words[place], place + 1
        elif name.startswith("no"):  # python-fire's short form of False
            found[name[2:]] = "False"
        else:
            found[name] = None
    return found


def _is_flag(word: str) -> bool:
    """Whether python-fire takes a word for the name of an option."""
    return word.startswith("--") or re.match("^-[a-zA-Z]", word) is not None


def parsed(text: str) -> Any:
    """What python-fire makes of a text."""
    from fire.parser import DefaultParseValue  # a part of MONAI's command line, which alone needs it

    return DefaultParseValue(text)


def reads_as_typed(text: str) -> bool:
    """Whether a text that python-fire takes for a Python value can be taken for nothing else.

    A plain decimal number, True, False, None, quoted text, and lists and dictionaries of them. ``1e3``, ``2024_05``,
    ``007`` or ``0x10`` may be a number or a name; what has a comment has lost it.
    """
    plain = re.compile(r"(0|[1-9]\d*)(\.\d*)?|\.\d+")
    tokens = _tokens(text)
    return bool(tokens) and not any(
        token.type == tokenize.COMMENT or (token.type == tokenize.NUMBER and not plain.fullmatch(token.string))
        for token in tokens
    )


def has_comment(text: str) -> bool:
    """Whether python-fire drops a part of a text, which it takes for a comment."""
    return any(token.type == tokenize.COMMENT for token in _tokens(text)) and parsed(text) != text


def _tokens(text: str) -> list[tokenize.TokenInfo]:
    """The Python tokens of a text; none if it is no Python."""
    try:
        return list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, IndentationError, SyntaxError):
        return []
