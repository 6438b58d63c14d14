"""Typed descriptions: the nearest known text by an oracle, what is far, and that nothing is overwritten."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from stride_monai.bethesda import AGC_DESCRIPTION, DESCRIPTION_VOCABULARY, PAPER_DESCRIPTIONS
from stride_monai.cli.main import app
from stride_monai.data.cells import CellRecord, write_cells
from stride_monai.data.free_text import KNOWN_TEXTS, LEXICAL, free_texts, match_texts, write_matches
from stride_monai.errors import BundleError, ConfigError, OutputError


def cell(number: int, *descriptions: str) -> CellRecord:
    return CellRecord("s1", str(number), 0, 0, 9, 9, "HSIL", descriptions)


def spelling_distance(one: str, other: str) -> float:
    """1 - cosine of the counts of three characters in a row, written out."""
    counts = []
    for text in (one, other):
        padded = " " + " ".join(text.lower().split()) + " "
        counts.append(Counter(padded[k : k + 3] for k in range(len(padded) - 2)))
    product = sum(counts[0][group] * counts[1][group] for group in counts[0])
    lengths = [math.sqrt(sum(value**2 for value in count.values())) for count in counts]
    return 1 - product / (lengths[0] * lengths[1]) if all(lengths) else 1.0


@given(st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=4, unique=True))
def test_the_nearest_known_text_is_that_of_a_search_by_hand(texts: list[str]) -> None:
    for text, match in zip(texts, match_texts(dict.fromkeys(texts, 1)), strict=True):
        distances = {known: spelling_distance(text, known) for known in KNOWN_TEXTS}
        first, second = sorted(distances.values())[:2]
        assert match.text == text
        assert match.distance == pytest.approx(first, abs=1e-4)
        assert match.second_distance == pytest.approx(second, abs=1e-4)
        assert distances[match.nearest] == pytest.approx(first, abs=1e-9)
        assert match.nearest != match.second


def test_what_was_chosen_from_the_list_is_no_free_text_and_what_was_typed_is_counted_as_written() -> None:
    assert set(PAPER_DESCRIPTIONS["AGC"]) <= set(KNOWN_TEXTS)
    chosen = [cell(k, text) for k, text in enumerate(KNOWN_TEXTS)]
    typed = [cell(100, "Raisin nuclei", "normal cell"), cell(101, "Raisin nuclei"), cell(102, "b"), cell(103, "a")]
    assert list(free_texts([*chosen, *typed]).items()) == [("Raisin nuclei", 2), ("a", 1), ("b", 1)]


def test_a_text_that_only_differs_in_case_is_near_and_nonsense_is_shown_as_far() -> None:
    near, typo, nonsense = match_texts({"Normal  Cell": 3, "upward nuclear displacment": 1, "qqqq": 1})
    assert (near.nearest, near.distance, near.far, near.cells, near.text) == (
        "normal cell",
        0,
        False,
        3,
        "Normal  Cell",
    )
    assert (typo.nearest, typo.becomes, typo.far) == ("upward nuclear displacement", AGC_DESCRIPTION, False)
    assert (nonsense.far, nonsense.distance, nonsense.embedding) == (True, 1, LEXICAL)
    assert near.becomes in DESCRIPTION_VOCABULARY


def test_far_is_farther_than_known_texts_are_from_each_other_in_any_embedding() -> None:
    """Known texts on a circle, 10 degrees apart: their neighbours' distance is 1 - cos 10."""

    def embed(texts: Sequence[str]) -> NDArray[np.float64]:
        degrees = {"9 off": -9.0, "11 off": -11.0} | {text: 10.0 * k for k, text in enumerate(KNOWN_TEXTS)}
        angles = np.radians([degrees[text] for text in texts])
        return 7 * np.stack([np.cos(angles), np.sin(angles)], axis=1)

    near, far = match_texts({"9 off": 1, "11 off": 1}, embed, "a circle")
    assert [match.nearest for match in (near, far)] == [KNOWN_TEXTS[0]] * 2
    assert near.distance == pytest.approx(1 - math.cos(math.radians(9)), abs=1e-4)
    assert (near.far, far.far, far.embedding) == (False, True, "a circle")


def test_a_table_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "cells.csv").write_text("mine")
    with pytest.raises(OutputError, match=r"cells\.csv is there already"):
        write_matches(tmp_path / "cells.csv", match_texts({"a": 1}))
    assert (tmp_path / "cells.csv").read_text() == "mine"


def descriptions(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", "descriptions", *map(str, arguments)])


def test_the_command_lists_every_typed_text_and_leaves_the_cohort_alone(tmp_path: Path) -> None:
    write_cells(tmp_path / "cells.csv", [cell(1, "normal cell"), cell(2, "raisin nuclei", "qqqq"), cell(3, "qqqq")])
    before = (tmp_path / "cells.csv").read_bytes()
    done = descriptions(tmp_path, "--out", tmp_path / "words.csv")
    assert done.exit_code == 0, done.output
    assert "2 typed texts, 1 of them far from all known ones" in done.output
    assert f"embedding: {LEXICAL}" in done.output
    assert (tmp_path / "cells.csv").read_bytes() == before
    with (tmp_path / "words.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["text"], row["cells"], row["far"]) for row in rows] == [
        ("qqqq", "2", "yes"),
        ("raisin nuclei", "1", ""),
    ]
    assert rows[1]["nearest"] == "marked nuclear dyskaryosis (raisinoid nuclei)"
    assert {row["embedding"] for row in rows} == {LEXICAL}
    again = descriptions(tmp_path, "--out", tmp_path / "cells.csv")
    assert isinstance(again.exception, OutputError)
    absent = descriptions(tmp_path, "--out", tmp_path / "x.csv", "--text-encoder", tmp_path / "nowhere")
    assert isinstance(absent.exception, ConfigError)
    empty = descriptions(tmp_path, "--out", tmp_path / "x.csv", "--text-encoder", tmp_path)
    assert isinstance(empty.exception, BundleError)
    assert "leave --text-encoder out" in str(empty.exception)
    assert not (tmp_path / "x.csv").exists()


def test_a_text_encoder_in_a_folder_gives_the_embedding_and_its_name(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    words = sorted({word for text in [*KNOWN_TEXTS, "raisin nuclei"] for word in text.replace(",", " ").split()})
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    folder = tmp_path / "toy-bert"
    transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(folder)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    transformers.BertModel(transformers.BertConfig(vocab_size=len(words) + 5, **sizes)).save_pretrained(folder)
    write_cells(tmp_path / "cells.csv", [cell(1, "raisin nuclei")])
    done = descriptions(tmp_path, "--out", tmp_path / "words.csv", "--text-encoder", folder)
    assert done.exit_code == 0, done.exception
    assert "first token of the text encoder toy-bert" in done.output
    with (tmp_path / "words.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert row["nearest"] in KNOWN_TEXTS
    assert 0 <= float(row["distance"]) <= float(row["second_distance"]) <= 2
