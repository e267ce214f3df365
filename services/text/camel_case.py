"""Labels written as identifiers, ``GoldenRetriever``, as the words that they stand for."""

from __future__ import annotations

import re

_BORDER = re.compile(r"(?<=[a-zß-öø-ÿ])(?=[A-ZÀ-ÖØ-Þ])|(?<=[A-ZÀ-ÖØ-Þ])(?=[A-ZÀ-ÖØ-Þ][a-zß-öø-ÿ])")
_SHORTEST = 3


def split_camel_case(label: str) -> str:
    """``label`` with spaces between its words, if it is one word in camel case; else as it is.

    A word that has its own capitals stays whole: one with a part of one or two letters (``McLaren``, ``iPod``), and one
    beside others (``Chevrolet TrailBlazer``), where a space would have been written too.

    >>> [split_camel_case(label) for label in ("GoldenRetriever", "trafficLight", "LCDScreen", "McLaren", "red iPod")]
    ['Golden Retriever', 'traffic Light', 'LCD Screen', 'McLaren', 'red iPod']
    """
    if not label.isalpha() or label.islower() or label.isupper():
        return label
    parts = _BORDER.split(label)
    return " ".join(parts) if min(map(len, parts)) >= _SHORTEST else label
