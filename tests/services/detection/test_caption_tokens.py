"""Captions as tokens: what a phrase is made of, and which relation stands between two."""

from __future__ import annotations

import pytest

from services.detection.caption_tokens import Relation, Said, phrase_tokens, tokenise
from services.detection.protocol import Caption


def _caption(text: str, *phrases: str) -> Caption:
    return Caption(text, tuple((text.index(phrase), text.index(phrase) + len(phrase)) for phrase in phrases))


@pytest.mark.parametrize(
    ("phrase", "tokens"),
    [
        ("the owl", ["owl"]),
        ("Two RED police cars", ["two", "red", "police cars"]),
        ("gray wolf", ["grey", "wolf"]),
        ("a", ["a"]),
        ("the red", ["red"]),
        ("ein Äpfel-Korb", ["ein äpfel-korb"]),
        ("!!", ["!!"]),
    ],
)
def test_a_phrase_is_its_colours_and_counts_and_then_its_noun(phrase: str, tokens: list[str]) -> None:
    assert phrase_tokens(phrase) == tokens


@pytest.mark.parametrize(
    ("between", "kind"),
    [
        ("left of", "left of"),
        ("to the left of", "left of"),
        ("is right of", "right of"),
        ("on top of", "above"),
        ("underneath", "below"),
        ("right next to", None),
        ("and, above all,", None),
        (". Above it,", None),
    ],
)
def test_words_between_phrases_say_a_relation_or_none(between: str, kind: str | None) -> None:
    said = tokenise(_caption(f"the owl {between} the car", "the owl", "the car"))
    assert said.tokens == ("owl", kind or "and", "car")
    assert said.relations == (() if kind is None else (Relation(0, kind, 1),))


def test_phrases_keep_the_order_that_they_were_sent_in() -> None:
    said = tokenise(_caption("two owls above a red car", "a red car", "two owls"))
    assert said.tokens == ("two", "owls", "above", "red", "car")
    assert said.phrases == (Said(3, 5), Said(0, 2)) and said.relations == (Relation(1, "above", 0),)
