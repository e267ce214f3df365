"""Checks the fields of a request against a table: strict, in one pass, without copying what may be megabytes of image.

The pydantic classes of the bodies say the same for the OpenAPI document; a test holds the two together.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

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
    """One kind of value: ``check`` returns the value of a JSON body, ``parse`` makes one of query parameters."""

    def check(self, value: object, pointer: str) -> object: ...

    def parse(self, texts: Sequence[str], pointer: str) -> object: ...


def wrong(code: str, title: str, detail: str, pointer: str, remedy: str | None = None) -> NoReturn:
    """Raise the 422 of a field."""
    raise Problem(Kind.INVALID, code, title, detail, pointer=pointer, remedy=remedy)


def _wrong_type(wanted: str, value: object, pointer: str) -> NoReturn:
    got = _JSON_NAMES.get(type(value), "something else")
    wrong("field-type", "A field has the wrong type", f"{_name(pointer)} is {got}; it must be {wanted}.", pointer)


def _name(pointer: str) -> str:
    return f"`{pointer[1:].replace('/', '.')}`" if pointer else "The body"


def _single(texts: Sequence[str], pointer: str) -> str:
    if len(texts) > 1:
        wrong("field-repeated", "A parameter is repeated", f"{_name(pointer)} is given {len(texts)} times.", pointer)
    return texts[0]


@dataclass(frozen=True, slots=True)
class Text:
    """A string of 1 to ``longest`` characters, not blank, without NUL."""

    longest: int

    def check(self, value: object, pointer: str) -> str:
        if type(value) is not str:
            _wrong_type("a string", value, pointer)
        if not value or value.isspace():
            wrong("text-empty", "A text is empty", f"{_name(pointer)} is empty.", pointer)
        if len(value) > self.longest:
            detail = f"{_name(pointer)} has {len(value):,} characters; the limit is {self.longest:,}."
            wrong("text-too-long", "A text is too long", detail, pointer)
        if "\x00" in value:
            wrong("text-invalid", "A text holds a NUL character", f"{_name(pointer)} holds a NUL.", pointer)
        return value

    def parse(self, texts: Sequence[str], pointer: str) -> object:
        return _single(texts, pointer)


@dataclass(frozen=True, slots=True)
class Texts:
    """An array of 1 to ``most`` texts; with ``single``, one string stands for an array of one, as OpenAI has it.

    As query parameters: ``a,b,c``, or the parameter repeated (then commas belong to the text).
    """

    most: int
    longest: int
    single: bool = False

    def check(self, value: object, pointer: str) -> list[str]:
        text = Text(self.longest)
        if self.single and type(value) is str:
            return [text.check(value, pointer)]
        if type(value) is not list:
            _wrong_type("an array of strings", value, pointer)
        _check_length(value, self.most, pointer)
        if self.single and type(value[0]) in (int, list):
            detail = f"{_name(pointer)} holds tokens; every model here has a tokenizer of its own."
            wrong("input-tokens", "Arrays of tokens are not read", detail, pointer, "Send the texts themselves.")
        for index, item in enumerate(value):
            # The usual text passes on this line; the rest finds out what is wrong with it.
            if type(item) is not str or not item or len(item) > self.longest or item.isspace() or "\x00" in item:
                text.check(item, f"{pointer}/{index}")
        return value

    def parse(self, texts: Sequence[str], pointer: str) -> object:
        return list(texts) if len(texts) > 1 else texts[0].split(",")


def _check_length(items: list[Any], most: int, pointer: str) -> None:
    if not items:
        wrong("array-empty", "An array is empty", f"{_name(pointer)} is empty.", pointer)
    if len(items) > most:
        detail = f"{_name(pointer)} has {len(items):,} items; the limit is {most:,}."
        wrong("array-too-long", "An array is too long", detail, pointer, "Send several requests.")


@dataclass(frozen=True, slots=True)
class Image:
    """One image as text: how it is coded is found out when it is decoded."""

    def check(self, value: object, pointer: str) -> str:
        if type(value) is not str:
            _wrong_type("a string (a data URI, base64, or an address)", value, pointer)
        if not value:
            wrong("image-empty", "The image is empty", f"{_name(pointer)} is empty.", pointer)
        return value

    def parse(self, texts: Sequence[str], pointer: str) -> object:
        return _single(texts, pointer)


@dataclass(frozen=True, slots=True)
class Images:
    """An array of 1 to ``most`` images."""

    most: int

    def check(self, value: object, pointer: str) -> list[str]:
        if type(value) is not list:
            _wrong_type("an array of strings", value, pointer)
        _check_length(value, self.most, pointer)
        image = Image()
        return [image.check(item, f"{pointer}/{index}") for index, item in enumerate(value)]

    def parse(self, texts: Sequence[str], pointer: str) -> object:
        return list(texts)


@dataclass(frozen=True, slots=True)
class Whole:
    """An integer from ``low`` to ``high``."""

    low: int
    high: int

    def check(self, value: object, pointer: str) -> int:
        if type(value) is not int:
            _wrong_type("a whole number", value, pointer)
        if not self.low <= value <= self.high:
            detail = f"{_name(pointer)} is {value}; it must be from {self.low:,} to {self.high:,}."
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

    low: float
    high: float

    def check(self, value: object, pointer: str) -> float:
        if type(value) is not float and type(value) is not int:
            _wrong_type("a number", value, pointer)
        if not self.low <= value <= self.high:
            detail = f"{_name(pointer)} is {value}; it must be from {self.low:g} to {self.high:g}."
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

    def check(self, value: object, pointer: str) -> bool:
        if type(value) is not bool:
            _wrong_type("true or false", value, pointer)
        return value

    def parse(self, texts: Sequence[str], pointer: str) -> object:
        text = _single(texts, pointer)
        lower = text.lower()
        return True if lower in _TRUE else False if lower in _FALSE else text


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few strings."""

    values: tuple[str, ...]

    def check(self, value: object, pointer: str) -> str:
        if type(value) is not str:
            _wrong_type("a string", value, pointer)
        if value not in self.values:
            known = ", ".join(repr(known) for known in self.values)
            detail = f"{_name(pointer)} is {value[:100]!r}; it must be one of {known}."
            wrong("field-value", "A field has an unknown value", detail, pointer)
        return value

    def parse(self, texts: Sequence[str], pointer: str) -> object:
        return _single(texts, pointer)


@dataclass(frozen=True, slots=True)
class Form:
    """The fields that a request may have, all of them optional: what must be there depends on the others.

    ``null`` is the same as not sent.
    """

    fields: Mapping[str, Field]

    def read(self, body: object) -> dict[str, Any]:
        """The checked fields of a parsed JSON body that are present and not null."""
        if type(body) is not dict:
            _wrong_type("an object", body, "")
        found: dict[str, Any] = {}
        for name, value in body.items():
            field = self.fields.get(name)
            if field is None:
                self._unknown(name)
            if value is not None:
                found[name] = field.check(value, f"/{name}")
        return found

    def query(self, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """The checked fields of query parameters."""
        grouped: dict[str, list[str]] = {}
        for name, text in pairs:
            grouped.setdefault(name, []).append(text)
        found: dict[str, Any] = {}
        for name, texts in grouped.items():
            field = self.fields.get(name)
            if field is None:
                self._unknown(name)
            pointer = f"/{name}"
            found[name] = field.check(field.parse(texts, pointer), pointer)
        return found

    def _unknown(self, name: str) -> NoReturn:
        shown = name[:100]
        near = difflib.get_close_matches(shown, self.fields, n=1, cutoff=0.5)
        raise Problem(
            Kind.INVALID,
            "field-unknown",
            "A field is not known",
            f"There is no field {shown!r}.",
            pointer="/" + shown.replace("~", "~0").replace("/", "~1"),
            remedy=f"Did you mean {near[0]!r}?" if near else f"Known fields: {', '.join(self.fields)}.",
        )
