"""A label written as an identifier is read as its words; other capitals are left alone."""

from __future__ import annotations

import pytest

from services.encoding.templates import fill
from services.text.camel_case import split_camel_case


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("GoldenRetriever", "Golden Retriever"),
        ("goldenRetriever", "golden Retriever"),
        ("BigRedFireEngine", "Big Red Fire Engine"),
        ("LCDScreen", "LCD Screen"),
        ("ÉcoleÉlémentaire", "École Élémentaire"),
    ],
)
def test_words_in_camel_case_are_split(label: str, words: str) -> None:
    assert split_camel_case(label) == words
    assert fill([f" {label} "], ["a {}."]) == [[f"a {words}."]]


@pytest.mark.parametrize(
    "label",
    ["dog", "Dog", "DOG", "iPod", "eBook", "McLaren", "DeLorean", "LaTeX", "golden retriever", "Golden_Retriever",
     "Chevrolet TrailBlazer SS 2009", "BMW ActiveHybrid 5", "Boeing737Max", "", " ", "犬", "A", "Scion xD"],
)  # fmt: skip
def test_other_labels_are_left_as_they_are(label: str) -> None:
    assert split_camel_case(label) == label
