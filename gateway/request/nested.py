"""Values that consist of others: arrays, objects, and those that may be of several kinds."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NoReturn, TypeVar

from pydantic import BaseModel

from gateway.request.fields import Choice, Field, Image, check_length, missing, shown, wrong, wrong_type
from services.errors import Kind, Problem

B = TypeVar("B", bound=BaseModel)

MAIN_IMAGES = ("image", "images")
"""Fields of the images that a request is about. They may also come as files, so a form does not miss them."""


def below(pointer: str, name: str) -> str:
    """The pointer to the member ``name`` of what ``pointer`` leads to."""
    return f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"


class _Nested:
    """A value that consists of others, and so has no form as a query parameter."""

    flat: ClassVar[bool] = False

    def parse(self, texts: Sequence[str], pointer: str) -> object:
        wrong(
            "field-misplaced",
            "A field is in the wrong place",
            f"{shown(pointer)} cannot be a query parameter.",
            pointer,
            "Send JSON, or a form with a part `request`.",
        )


@dataclass(frozen=True, slots=True)
class Array(_Nested):
    """An array of ``fewest`` to ``most`` values of one kind; only images also come as query parameters."""

    item: Field
    fewest: int
    most: int

    types: ClassVar = (list,)
    plural: ClassVar = "arrays"

    def check(self, value: object, pointer: str) -> list[Any]:
        if type(value) is not list:
            wrong_type(f"an array of {self.item.plural}", value, pointer)
        check_length(value, self.fewest, self.most, pointer)
        check = self.item.check
        return [check(item, f"{pointer}/{index}") for index, item in enumerate(value)]

    def parse(self, texts: Sequence[str], pointer: str) -> object:
        return list(texts) if isinstance(self.item, Image) else _Nested.parse(self, texts, pointer)


@dataclass(frozen=True, slots=True)
class Entries(_Nested):
    """An object of at most ``most`` members whose names are not known before; names and values are of one kind each."""

    name: Field
    item: Field
    fewest: int
    most: int

    types: ClassVar = (dict,)
    plural: ClassVar = "objects"

    def check(self, value: object, pointer: str) -> dict[str, Any]:
        if type(value) is not dict:
            wrong_type("an object", value, pointer)
        check_length(value, self.fewest, self.most, pointer)
        found = {}
        for name, item in value.items():
            place = below(pointer, name)
            self.name.check(name, place)
            found[name] = self.item.check(item, place)
        return found


@dataclass(frozen=True, slots=True)
class OneOf(_Nested):
    """A value of one of several kinds, told apart by the type that it has in JSON."""

    kinds: Mapping[type, Field]
    wanted: str

    plural: ClassVar = "values"

    @property
    def types(self) -> tuple[type, ...]:
        return tuple(self.kinds)

    def check(self, value: object, pointer: str) -> object:
        kind = self.kinds.get(type(value))
        if kind is None:
            wrong_type(self.wanted, value, pointer)
        return kind.check(value, pointer)


@dataclass(frozen=True, slots=True)
class Tagged(_Nested):
    """An object of one of several forms; its member ``tag`` says which."""

    tag: str
    forms: Mapping[str, Field]

    types: ClassVar = (dict,)
    plural: ClassVar = "objects"

    def check(self, value: object, pointer: str) -> object:
        if type(value) is not dict:
            wrong_type("an object", value, pointer)
        place = below(pointer, self.tag)
        if value.get(self.tag) is None:
            missing(place)
        return self.forms[Choice(tuple(self.forms)).check(value[self.tag], place)].check(value, pointer)


@dataclass(frozen=True, slots=True)
class Form(Generic[B]):
    """The fields of a request or of an object in it. ``null`` is the same as not sent where the class allows it.

    ``empty`` is a body with nothing but its defaults; the value of a form that is a field is such a body, filled in.
    Images are in the fields ``holding_images``, besides ``image`` and ``images`` of a whole request.
    """

    empty: B
    fields: Mapping[str, Field]
    required: frozenset[str] = frozenset()
    never_null: frozenset[str] = frozenset()
    holding_images: tuple[str, ...] = ()

    types: ClassVar = (dict,)
    plural: ClassVar = "objects"
    flat: ClassVar = False

    @property
    def takes_images(self) -> bool:
        """Whether a whole request is about images."""
        return any(name in self.fields for name in MAIN_IMAGES)

    @property
    def files(self) -> tuple[str, ...]:
        """Fields of a whole request, each of which is one image and may come as a file of that name."""
        return tuple(name for name in self.holding_images if isinstance(self.fields[name], Image))

    @property
    def in_query(self) -> tuple[str, ...]:
        """Fields that may be query parameters where the body is an image."""
        return tuple(name for name, field in self.fields.items() if field.flat and not is_images(field))

    def read(self, sent: object, pointer: str = "") -> dict[str, Any]:
        """The checked fields of a parsed JSON object that are present and not null."""
        if type(sent) is not dict:
            wrong_type("an object", sent, pointer)
        found: dict[str, Any] = {}
        for name, value in sent.items():
            field = self.fields.get(name)
            if field is None:
                self._unknown(name, pointer)
            if value is not None or name in self.never_null:
                found[name] = field.check(value, f"{pointer}/{name}")
        if self.required:
            self._need(found, pointer)
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
                self._unknown(name, "")
            pointer = f"/{name}"
            found[name] = field.check(field.parse(texts, pointer), pointer)

        if self.required:
            self._need(found, "")

        return found

    def made(self, found: Mapping[str, Any]) -> B:
        """The body that has the fields ``found``, which :meth:`read` or :meth:`query` has checked."""
        body = self.empty.__copy__()  # model_construct takes four times as long
        vars(body).update(found)
        body.model_fields_set.update(found)
        return body

    def check(self, value: object, pointer: str) -> B:
        return self.made(self.read(value, pointer))

    def parse(self, texts: Sequence[str], pointer: str) -> object:
        return texts[0]  # a text is no object: its check says so

    def _need(self, found: Mapping[str, Any], pointer: str) -> None:
        for name in self.fields:
            if name in self.required and name not in found:
                missing(below(pointer, name))

    def _unknown(self, name: str, pointer: str) -> NoReturn:
        told = name[:100]
        near = difflib.get_close_matches(told, self.fields, n=1, cutoff=0.5)
        raise Problem(
            Kind.INVALID,
            "field-unknown",
            "A field is not known",
            f"There is no field {told!r}.",
            pointer=below(pointer, told),
            remedy=f"Did you mean {near[0]!r}?" if near else f"Known fields: {', '.join(self.fields)}.",
        )


def is_images(field: Field) -> bool:
    """Return whether a value of ``field`` is an image or an array of images."""
    return isinstance(field, Image) or (isinstance(field, Array) and isinstance(field.item, Image))


def holds_images(field: Field) -> bool:
    """Return whether a value of ``field`` may be an image or have one in it."""
    match field:
        case Image():
            return True
        case Array(item=item) | Entries(item=item):
            return holds_images(item)
        case OneOf(kinds=forms) | Tagged(forms=forms):
            return any(holds_images(one) for one in forms.values())
        case Form():
            return any(holds_images(one) for one in field.fields.values())
    return False


def images_in(field: Field, value: Any, pointer: str) -> Iterator[tuple[str, str]]:
    """Where each image stands in a checked ``value`` of ``field``, and its text."""
    if isinstance(field, Image):
        yield pointer, value
    elif isinstance(field, Array):
        for index, item in enumerate(value):
            yield from images_in(field.item, item, f"{pointer}/{index}")
    elif isinstance(field, Form):
        for name in field.holding_images:
            if (held := getattr(value, name)) is not None:
                yield from images_in(field.fields[name], held, f"{pointer}/{name}")
