"""Values as people say them, brought to one form: numbers in words, times of day, days, yes and no."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from rapidfuzz import fuzz, process

from services.dialog.schema import ColumnType, SlotType

_WORDS = {
    word: number
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "  # noqa: SIM905
        "seventeen eighteen nineteen twenty".split()
    )
}
_TIME = re.compile(r"^(\d{1,2})(?:[:.h](\d{2}))?\s*(a\.?m\.?|p\.?m\.?|o'?clock)?$")
_HALF = re.compile(r"^half past (\w+)$")
_QUARTER = re.compile(r"^(?:a )?quarter (past|to) (\w+)$")
_SPACES = re.compile(r"\s+")
_YES = {"yes", "y", "true", "1", "free", "with", "included"}
_NO = {"no", "n", "false", "0", "without", "none"}
CLOSE = 90.0
"""Per cent of likeness from which a value is taken for one of the database's, as MultiWOZ's evaluator does."""


def plain(text: str) -> str:
    """Lower case, NFC, single spaces: the form in which values are compared.

    >>> plain("  Caf\\u00e9   Uno ")
    'caf\\u00e9 uno'
    """
    return _SPACES.sub(" ", unicodedata.normalize("NFC", text)).strip().lower()


def number_of(text: str) -> float | None:
    """A number in digits or, to twenty, in words; ``None`` for what is none."""
    said = plain(text).removesuffix(" people").removesuffix(" persons")
    if said in _WORDS:
        return float(_WORDS[said])
    try:
        value = float(said.lstrip("£$€"))
    except ValueError:
        return None
    return value if abs(value) < 1e15 else None  # also no nan, no infinity


def time_of(text: str) -> str | None:
    """A time of day as ``HH:MM``; ``None`` for what is none.

    >>> time_of("half past seven"), time_of("7 pm"), time_of("19.30")
    ('07:30', '19:00', '19:30')
    """
    said = plain(text).removeprefix("at ")
    if said in ("noon", "midday"):
        return "12:00"
    if said == "midnight":
        return "00:00"

    if found := _HALF.match(said):
        hour = number_of(found[1])
        return None if hour is None or hour > 23 else f"{int(hour):02d}:30"
    if found := _QUARTER.match(said):
        hour = number_of(found[2])
        if hour is None or hour > 23:
            return None
        return f"{int(hour):02d}:15" if found[1] == "past" else f"{(int(hour) - 1) % 24:02d}:45"

    words = said.split()
    if len(words) <= 2 and words and words[0] in _WORDS:
        said = " ".join([str(_WORDS[words[0]]), *words[1:]])
    found = _TIME.match(said)
    if found is None or (found[2] is None and found[3] is None):
        return None
    hour, minute, half = int(found[1]), int(found[2] or 0), (found[3] or "").replace(".", "")
    if half == "pm" and hour < 12:
        hour += 12
    if half == "am" and hour == 12:
        hour = 0
    return f"{hour:02d}:{minute:02d}" if hour < 24 and minute < 60 else None


def canonical(text: str, kind: SlotType | ColumnType) -> str:
    """``text`` as its kind writes it; as it was said, in lower case, where it cannot be read as that."""
    said = plain(text)
    if kind == "number":
        number = number_of(said)
        return said if number is None else f"{number:g}"
    if kind == "time":
        return time_of(said) or said
    if kind == "bool":
        return "yes" if said in _YES else "no" if said in _NO else said
    return said


def is_of(text: str, kind: SlotType | ColumnType) -> bool:
    """Whether a value of that kind can be read out of ``text``."""
    if kind == "number":
        return number_of(text) is not None
    if kind == "time":
        return time_of(text) is not None
    if kind == "bool":
        return plain(text) in _YES | _NO
    return bool(plain(text))


def closest(text: str, values: Iterable[str], least: float = CLOSE) -> tuple[str, float] | None:
    """The value most like ``text`` and how like it is (0 to 100), or ``None`` where none is ``least``."""
    found = process.extractOne(plain(text), list(values), scorer=fuzz.WRatio, score_cutoff=least)
    return None if found is None else (found[0], float(found[1]))
