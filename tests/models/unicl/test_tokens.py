"""Tokens for training: always an end, zeros behind it, and a tokenizer that the tower can pool."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from models.unicl.tokens import TokenizerError, from_file
from tests.support.unicl_run import WORDS, write_inputs

START, END = WORDS.index("<start>"), WORDS.index("<end>")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("tokens")) / "tokenizer.json"


def test_batch_is_padded_to_its_longest_text_with_zeros(file: Path) -> None:
    ids = from_file(file, 8, len(WORDS))(["red", "a photo of red"])
    assert ids.tolist() == [[START, 1, END, 0, 0, 0], [START, 5, 6, 7, 1, END]]


def test_long_text_keeps_its_end(file: Path) -> None:
    ids = from_file(file, 8, len(WORDS))(["red " * 50])
    assert ids.tolist() == [[START, *[1] * 6, END]]


def test_end_that_is_not_the_largest_id_is_refused(file: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.add_tokens(["one more"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(TokenizerError, match="ends a text with id"):
        from_file(tmp_path / "tokenizer.json", 8, 100)


def test_tower_with_too_few_ids_is_refused(file: Path) -> None:
    with pytest.raises(TokenizerError, match="the tower knows 5"):
        from_file(file, 8, 5)


def test_file_that_is_no_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text('{"image": {}}')
    for file in ("model.json", "absent.json"):
        with pytest.raises(TokenizerError, match=f"{file} is no tokenizer"):
            from_file(tmp_path / file, 16, 99)
