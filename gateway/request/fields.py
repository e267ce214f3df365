"""Kinds of values that fields of a request have, checked strictly, in one pass and without copying megabytes of image.

:mod:`gateway.request.form` derives them from the pydantic class of a body, which also documents it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, Protocol

from services.errors import Kind, Problem

_JSON_NAMES = {
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    list: "an array",
    dict: "an object",
    type(None): "null",
}
_TRUE, _FALSE = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})


class Field(Protocol):
    """One kind of value: ``check`` returns the value of a JSON body, ``parse`` makes one of query parameters.

    ``types`` are the types of parsed JSON that it takes, ``plural`` is what an array of them is an array of. A value
    that is not ``flat`` has no form as a query parameter.
    """

    @property
    def types(self) -> tuple[type, ...]: ...

    @property
    def plural(self) -> str: ...

    @property
    def flat(self) -> bool: ...

    def check(self, value: object, pointer: str) -> object: ...

    def parse(self, texts: Sequence[str], pointer: str) -> object: ...


def wrong(code: str, title: str, detail: str, pointer: str, remedy: str | None = None) -> NoReturn:
    """Raise the 422 of a field."""
    raise Problem(Kind.INVALID, code, title, detail, pointer=pointer, remedy=remedy)


def wrong_type(wanted: str, value: object, pointer: str) -> NoReturn:
    """Raise the 422 of a field whose value has another type than the one ``wanted``."""
    got = _JSON_NAMES.get(type(value), "something else")
    wrong("field-type", "A field has the wrong type", f"{shown(pointer)} is {got}; it must be {wanted}.", pointer)


def missing(pointer: str) -> NoReturn:
    """Raise the 422 of a field that must be there and is not."""
    wrong("field-missing", "A field is missing", f"{shown(pointer)} is missing.", pointer)


def shown(pointer: str) -> str:
    """A JSON pointer as people read it in a sentence."""
    return f"`{pointer[1:].replace('/', '.')}`" if pointer else "The body"


def _single(texts: Sequence[str], pointer: str) -> str:
    if len(texts) > 1:
        wrong("field-repeated", "A parameter is repeated", f"{shown(pointer)} is given {len(texts)} times.", pointer)
    return texts[0]


@dataclass(frozen=True, slots=True)
class Text:
    """A string of 1 to ``longest`` characters, not blank, without NUL."""

    types: ClassVar = (str,)
    plural: ClassVar = "strings"
    flat: ClassVar = True

    longest: int

    def check(self, value: object, pointer: str) -> str:
        if type(value) is not str:
            wrong_type("a string", value, pointer)
        if not value or value.isspace():
            wrong("text-empty", "A text is empty", f"{shown(pointer)} is empty.", pointer)
        if len(value) > self.longest:
            detail = f"{shown(pointer)} has {len(value):,} characters; the limit is {self.longest:,}."
            wrong("text-too-long", "A text is too long", detail, pointer)
        if "\x00" in value:
            wrong("text-invalid", "A text holds a NUL character", f"{shown(pointer)} holds a NUL.", pointer)
        return value

    def parse(self, texts: Sequence[str], pointer: str) -> object:
        return _single(texts, pointer)


@dataclass(frozen=True, slots=True)
class Texts:
    """An array of 1 to ``most`` texts; with ``single``, one string stands for an array of one, as OpenAI has it.

    As query parameters: ``a,b,c``, or the parameter repeated (then commas belong to the text).
    """

    plural: ClassVar = "arrays"
    flat: ClassVar = True

    most: int
    longest: int
    single: bool = False

    @property
    def types(self) -> tuple[type, ...]:
        return (list, str) if self.single else (list,)

    def check(self, value: object, pointer: str) -> list[str]:
        text = Text(self.longest)
        if self.single and type(value) is str:
            return [text.check(value, pointer)]

        if type(value) is not list:
            wrong_type("an array of strings", value, pointer)

        check_length(value, 1, self.most, pointer)
        if self.single and type(value[0]) in (int, list):
            detail = f"{shown(pointer)} holds tokens; every model here has a tokenizer of its own."
            wrong("input-tokens", "Arrays of tokens are not read", detail, pointer, "Send the texts themselves.")

        for index, item in enumerate(value):
            # The usual text passes on this line; the rest finds out what is wrong with it.
            if type(item) is not str or not item or len(item) > self.longest or item.isspace() or "\x00" in item:
                text.check(item, f"{pointer}/{index}")

        return value

    def parse(self, texts: Sequence[str], pointer: str) -> object:
        return list(texts) if len(texts) > 1 else texts[0].split(",")


def check_length(items: Sequence[Any] | Mapping[str, Any], fewest: int, most: int, pointer: str) -> None:
    """Raise ``array-empty``, ``array-too-short`` or ``array-too-long`` where there are not ``fewest`` to ``most``."""
    if not items and fewest:
        wrong("array-empty", "An array is empty", f"{shown(pointer)} is empty.", pointer)
    if len(items) < fewest:
        detail = f"{shown(pointer)} has {len(items):,} items; it needs {fewest:,}."
        wrong("array-too-short", "An array is too short", detail, pointer)
    if len(items) > most:
        detail = f"{shown(pointer)} has {len(items):,} items; the limit is {most:,}."
        wrong("array-too-long", "An array is too long", detail, pointer, "Send several requests.")


@dataclass(frozen=True, slots=True)
class Image:
    """One image as text: how it is coded is found out when it is decoded."""

    types: ClassVar = (str,)
    plural: ClassVar = "strings"
    flat: ClassVar = True

    def check(self, value: object, pointer: str) -> str:
        if type(value) is not str:
            wrong_type("a string (a data URI, base64, or an address)", value, pointer)
        if not value:
            wrong("image-empty", "The image is empty", f"{shown(pointer)} is empty.", pointer)
        return value

    def parse(self, texts: Sequence[str], pointer: str) -> object:
        return _single(texts, pointer)


@dataclass(frozen=True, slots=True)
class Whole:
    """An integer from ``low`` to ``high``."""

    types: ClassVar = (int,)
    plural: ClassVar = "whole numbers"
    flat: ClassVar = True

    low: int
    high: int

    def check(self, value: object, pointer: str) -> int:
        if type(value) is not int:
            wrong_type("a whole number", value, pointer)
        if not self.low <= value <= self.high:
            detail = f"{shown(pointer)} is {value}; it must be from {self.low:,} to {self.high:,}."
            wrong("field-range", "A number is out of range", detail, pointer)
        return value

    def parse(self, texts: Sequence[str], pointer: str) -> object:
        text = _single(texts, pointer)
        # Only what JSON would also read as an integer: no sign games, no underscores, no digits of other scripts.
        digits = text.removeprefix("-")
        return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 19 else text


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number from ``low`` to ``high``."""

    types: ClassVar = (int, float)
    plural: ClassVar = "numbers"
    flat: ClassVar = True

    low: float
    high: float

    def check(self, value: object, pointer: str) -> float:
        if type(value) is not float and type(value) is not int:
            wrong_type("a number", value, pointer)
        if not self.low <= value <= self.high:
            detail = f"{shown(pointer)} is {value}; it must be from {self.low:g} to {self.high:g}."
            wrong("field-range", "A number is out of range", detail, pointer)
        return float(value)

    def parse(self, texts: Sequence[str], pointer: str) -> object:
        text = _single(texts, pointer)
        try:
            return float(text)
        except ValueError:
            return text


@dataclass(frozen=True, slots=True)
class Flag:
    """``true`` or ``false``."""

    types: ClassVar = (bool,)
    plural: ClassVar = "booleans"
    flat: ClassVar = True

    def check(self, value: object, pointer: str) -> bool:
        if type(value) is not bool:
            wrong_type("true or false", value, pointer)
        return value

    def parse(self, texts: Sequence[str], pointer: str) -> object:
        text = _single(texts, pointer)
        lower = text.lower()
        return True if lower in _TRUE else False if lower in _FALSE else text


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few strings."""

    types: ClassVar = (str,)
    plural: ClassVar = "strings"
    flat: ClassVar = True

    values: tuple[str, ...]

    def check(self, value: object, pointer: str) -> str:
        if type(value) is not str:
            wrong_type("a string", value, pointer)
        if value not in self.values:
            known = ", ".join(repr(known) for known in self.values)
            detail = f"{shown(pointer)} is {value[:100]!r}; it must be one of {known}."
            wrong("field-value", "A field has an unknown value", detail, pointer)
        return value

    def parse(self, texts: Sequence[str], pointer: str) -> object:
        return _single(texts, pointer)
