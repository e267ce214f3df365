import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from models.text.clip_bpe import clip_tokenizer_json
from services.text.cleaning import clean_clip

FIXTURE = json.loads((Path(__file__).resolve().parents[2] / "parity" / "clip_tokenizer.json").read_text())


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    built = Tokenizer.from_str(clip_tokenizer_json())
    built.enable_truncation(77)
    return built


@pytest.mark.parametrize("case", FIXTURE["cases"], ids=lambda case: case["text"][:24].encode("unicode_escape").decode())
def test_cleaned_texts_have_openais_ids(tokenizer: Tokenizer, case: dict):
    ids = tokenizer.encode(clean_clip(case["text"])).ids
    assert ids + [0] * (77 - len(ids)) == case["openai_clip_77"]


def test_plain_text_is_returned_as_it_is():
    text = "a photo of a dog, don't you see?"
    assert clean_clip(text) is text


def test_entities_are_resolved_twice():
    assert clean_clip("fish &amp;amp; chips") == "fish & chips"
