"""Noun phrases are found in captions of every spelling, and their spans are those of the text as it was sent."""

from __future__ import annotations

import itertools

import pytest

from services.detection.noun_phrases import noun_phrases, tagger


@pytest.mark.parametrize(
    ("caption", "phrases"),
    [
        ("a man in a red hat holds two apples", ["a man", "a red hat", "two apples"]),
        ("A MAN IN A RED HAT HOLDS TWO APPLES", ["A MAN", "A RED HAT", "TWO APPLES"]),
        ("an apple, an apple and an Apple", ["an apple", "an apple", "an Apple"]),
        ("three small dogs and a cat on the blue sofa", ["three small dogs", "a cat", "the blue sofa"]),
        ("a person riding a wave on a surfboard", ["a person", "a wave", "a surfboard"]),
        ("a parked car next to a stop sign", ["a parked car", "a stop sign"]),
        ("a woman's handbag and a T-shirt", ["a woman's handbag", "a T-shirt"]),
        ("a black and white cat", ["a black and white cat"]),
        ("his very big, red dog in front of a house", ["his very big, red dog", "a house"]),
        ("10 apples on a 3-legged table", ["10 apples", "a 3-legged table"]),
        ("the owl left of the car", ["the owl", "the car"]),
        ("the owl to the left of the red car", ["the owl", "the red car"]),
        ("the left lion", ["the left lion"]),
        ("red car", ["red car"]),
        ("  A  red\n hat. ", ["A  red\n hat"]),
        ("a cafe\u0301 table \U0001f34e a cre\u0300me cake", ["a cafe\u0301 table", "a cre\u0300me cake"]),
        ("the caf\xe9 on the left", ["the caf\xe9"]),
        ("running fast", []),
        ("He is eating it.", []),
        ("\U0001f34e ?! --", []),
        ("", []),
    ],
)
def test_noun_phrases_of_a_caption(caption: str, phrases: list[str]) -> None:
    spans = noun_phrases(caption, tagger())
    assert [caption[begin:end] for begin, end in spans] == phrases
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(spans))
