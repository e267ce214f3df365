"""What a text encoder cuts, cannot read or cannot tell apart is said, and said again where rows are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers

from models.catalog.card import TextPreprocess
from models.text.clip_bpe import clip_tokenizer_json
from services.encoding.reading import read_labels, read_texts
from services.errors import Problem
from services.text.tokenizer import Tokenizer
from tests.support import tiny_models

LONG = "cat " * 300


@pytest.fixture(scope="module", params=["bert", "clip"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp(request.param)
    content = tiny_models.tokenizer() if request.param == "bert" else clip_tokenizer_json().encode()
    (made / "tokenizer.json").write_bytes(content)
    return made


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    made = tmp_path_factory.mktemp("tiny")
    (made / "tokenizer.json").write_bytes(tiny_models.tokenizer())
    return Tokenizer(made, TextPreprocess(max_length=16))


@pytest.mark.parametrize("copies", [1, 40])  # one by one, and as a batch of the library's
def test_a_cut_text_tells_how_many_tokens_it_has(folder: Path, copies: int) -> None:
    tokenizer = Tokenizer(folder, TextPreprocess(max_length=16))
    whole = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    whole.no_truncation()
    whole.no_padding()
    for text in (LONG, "cat " * 14, "cat " * 13, "a red dog, " * 31):
        tokens = tokenizer.tokenize([text] * copies)
        count = len(whole.encode(text).ids)
        assert tokens.cut == (dict.fromkeys(range(copies), count) if count > 16 else {})


def test_a_text_that_just_fits_is_not_cut(bert: Tokenizer) -> None:
    assert bert.tokenize(["cat " * 14]).cut == {} and bert.tokenize(["cat " * 15]).cut == {0: 17}


def test_what_is_never_cut_is_never_cut(folder: Path) -> None:
    tokenizer = Tokenizer(folder, TextPreprocess(max_length=16))
    for text in ("x" * 13, "q!z?" * 3, ".............", "a b c d e f g"):
        assert tokenizer.never_cut(text) and not tokenizer.tokenize([text]).cut
    assert not tokenizer.never_cut("é") and not tokenizer.never_cut("x" * 20)


def test_texts_out_of_the_vocabulary_are_noted(bert: Tokenizer) -> None:
    reading = read_texts(bert.tokenize(["cat", "🍎", "🍎 🍌", "cat 🍎"]))
    (note,) = reading.notes
    assert (note.code, note.indices) == ("input-unread", (1, 2)) and "texts 1 and 2" in note.detail


def test_a_byte_level_vocabulary_holds_everything(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(clip_tokenizer_json(), encoding="utf-8")
    reading = read_labels(Tokenizer(tmp_path, TextPreprocess(max_length=77)), ["🍎", "🍌", "!"], ["{}"])
    assert reading.notes == () and reading.truncated == ()


def test_cut_labels_name_the_templates_that_cut_them(bert: Tokenizer) -> None:
    labels = ["cat", "cat " * 12, LONG]
    reading = read_labels(bert, labels, ["{}", "a photo of the {}."])
    assert [(one.index, one.tokens, one.kept, one.templates) for one in reading.truncated] == [
        (1, 19, 16, (1,)),
        (2, 307, 16, (0, 1)),
    ]
    with pytest.raises(Problem) as caught:
        reading.refuse_cuts("/labels", within=True)
    assert (caught.value.code, caught.value.pointer) == ("text-too-long", "/labels/1")
    assert "Label 1 has 19 tokens in template 1; the model reads 16. 1 more" in caught.value.detail


def test_labels_that_become_one_text_are_noted(bert: Tokenizer) -> None:
    labels = [LONG + "red", "dog", LONG + "blue", "Dog", "🍎", "🍌", "car"]
    reading = read_labels(bert, labels, ["{}", "a photo of the {}."])
    notes = {note.code: [] for note in reading.notes}
    for note in reading.notes:
        notes[note.code].append(note.indices)
    assert notes == {"label-unread": [(4, 5)], "labels-alike": [(0, 2), (1, 3)]}
    assert "labels 4 and 5 ('🍎', '🍌')" in reading.notes[0].detail


def test_labels_that_differ_in_one_template_are_not_alike(bert: Tokenizer) -> None:
    labels = ["cat " * 12 + "dog", "cat " * 12 + "car"]
    assert [note.indices for note in read_labels(bert, labels, ["a photo of the {}."]).notes] == [(0, 1)]
    assert read_labels(bert, labels, ["a photo of the {}.", "{}"]).notes == ()


def test_many_labels_are_looked_through_in_pieces(bert: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.encoding.reading._AT_ONCE", 7)
    labels = [*(f"cat {number}" for number in range(50)), "CAT 3", LONG, "🍎"]
    reading = read_labels(bert, labels, ["{}"])
    assert [one.index for one in reading.truncated] == [51]
    assert {note.code: note.indices for note in reading.notes} == {"label-unread": (52,), "labels-alike": (3, 50)}
    assert json.dumps([note.detail for note in reading.notes])
