"""The words of the page: the same keys in both languages, all of them used, none missing."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

from stride_monai.bethesda import DESCRIPTION_VOCABULARY

ROOM = Path(str(resources.files("stride_monai.review")))
SOURCES = [ROOM / "static" / "index.html", *sorted((ROOM / "static" / "js").glob("*.js"))]
TOLD = {"labels", "descriptions"}  # maps


def texts(language: str) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads((ROOM / "texts" / f"{language}.json").read_text(encoding="utf-8"))
    return raw


def used() -> set[str]:
    source = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    keys = set(re.findall(r'\bt\("(\w+)"', source)) | set(re.findall(r'data-(?:text|label)="(\w+)"', source))
    keys |= set(re.findall(r'\bkey: "(\w+)"', source))
    return keys | set(re.findall(r'\bshown\("(\w+)"\)', source))


def test_both_languages_have_the_same_keys_and_values_to_fill_in() -> None:
    english, chinese = texts("en"), texts("zh")
    assert english.keys() == chinese.keys()
    for key in english.keys() - TOLD:
        assert set(re.findall(r"\{\w+\}", english[key])) == set(re.findall(r"\{\w+\}", chinese[key])), key
        assert english[key].strip(), key
        assert chinese[key].strip(), key
    assert english["labels"].keys() == chinese["labels"].keys()
    assert chinese["descriptions"].keys() == set(DESCRIPTION_VOCABULARY)


def test_every_key_that_the_page_uses_is_there_and_the_other_way_round() -> None:
    known, asked = texts("en").keys() - TOLD, used()
    assert asked <= known, sorted(asked - known)
    made = {key for key in known if re.match(r"(state|model)_", key) or key in HEADS}
    assert known - asked <= made, sorted(known - asked - made)


HEADS = {"slide", "progress", "your_call", "disagreements", "cell", "reads"}  # of tables, by a list of names


def test_no_word_of_the_page_stands_in_a_script() -> None:
    """A text with a space that is shown would be a string in a call of el() or note()."""
    for path in SOURCES[1:]:
        for line in re.sub(r"(?m)^//.*$", "", path.read_text(encoding="utf-8")).splitlines():
            shown = re.findall(r'el\("\w+", \{[^}]*\}, "([^"]+)"', line)
            assert all(len(text) <= 2 for text in shown), f"{path.name}: {line.strip()}"


def test_the_page_asks_for_all_its_scripts_at_once() -> None:
    """A script that only another one names would be found a round trip later."""
    asked = re.findall(r'<link rel="modulepreload" href="static/js/(\w+\.js)">', SOURCES[0].read_text(encoding="utf-8"))
    assert asked == [path.name for path in SOURCES[1:]]
