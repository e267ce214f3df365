"""Forms of requests: their fields, derived once at start-up from the pydantic class that documents the body.

What a class says and a form could not hold a request to (a pattern, a text without a bound) is refused at start-up.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, TypeVar, Union, cast, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic.fields import FieldInfo

from gateway.request.body import IMAGE, NOT_BLANK, Body, Limit
from gateway.request.fields import Choice, Field, Flag, Image, Number, Text, Texts, Whole
from gateway.request.nested import MAIN_IMAGES, Array, Entries, Form, OneOf, Tagged, holds_images, is_images
from services.settings import Settings

B = TypeVar("B", bound=Body)

_LONG = 2**63


def form_of(body: type[B], settings: Settings, *, whole: bool = True) -> Form[B]:
    """Derive the form of ``body`` with the limits of ``settings``; raises :class:`TypeError` where no form can check.

    A ``whole`` request may have images as files: its form does not ask for them.
    """
    empty = cast("B", body.model_construct())
    fields: dict[str, Field] = {}
    required, never_null = set(), set()
    for name, info in body.model_fields.items():
        deriving = _Deriving(f"{body.__name__}.{name}", settings)
        fields[name] = deriving.field(info.annotation, info)
        if info.alias is not None:
            deriving.refuse("a field has one name")
        if info.is_required() and not (whole and is_images(fields[name])):
            required.add(name)
        if NoneType not in get_args(info.annotation):
            never_null.add(name)

    apart = MAIN_IMAGES if whole else ()
    holding = tuple(name for name, field in fields.items() if name not in apart and holds_images(field))
    return Form(empty, fields, frozenset(required), frozenset(never_null), holding)


@dataclass(slots=True)
class _Bounds:
    """What the metadata of an annotation says, with the limits of the settings in place."""

    least: float | None = None
    highest: float | None = None
    shortest: int = 0
    longest: int | None = None
    is_image: bool = False
    not_blank: bool = False
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class _Deriving:
    """Derives one field of a class; ``where`` names it in complaints."""

    where: str
    settings: Settings

    def field(self, annotation: Any, *metadata: object) -> Field:
        """Derive the field of an annotation."""
        if get_origin(annotation) is Annotated:
            annotation, *more = get_args(annotation)
            return self.field(annotation, *more, *metadata)

        bounds = self._bounds(metadata)
        origin = get_origin(annotation)
        if origin in (Union, UnionType):
            return self._union(annotation, metadata, bounds)
        if origin is Literal and all(isinstance(value, str) for value in get_args(annotation)):
            return Choice(get_args(annotation))
        if origin is list:
            return self._array(self.field(*get_args(annotation)), bounds)
        if origin is dict:
            name, item = (self.field(part) for part in get_args(annotation))
            return Entries(name, item, bounds.shortest, self._bound(bounds.longest))
        if isinstance(annotation, type) and issubclass(annotation, Body):
            return form_of(annotation, self.settings, whole=False)
        return self._scalar(annotation, bounds)

    def _scalar(self, annotation: Any, bounds: _Bounds) -> Field:
        if annotation is bool:
            return Flag()
        if annotation is int:
            lowest = -_LONG if bounds.least is None else int(bounds.least)
            return Whole(lowest, _LONG - 1 if bounds.highest is None else int(bounds.highest))

        if annotation is float:
            largest = sys.float_info.max
            low = -largest if bounds.least is None else bounds.least
            return Number(low, largest if bounds.highest is None else bounds.highest)

        if annotation is str and bounds.is_image:
            return Image()
        if annotation is str and bounds.not_blank:
            return Text(self._bound(bounds.longest))

        self.refuse(f"{annotation!r} has no form; a text is a PlainText, an image an ImageText")

    def _array(self, item: Field, bounds: _Bounds) -> Field:
        most = self._bound(bounds.longest)
        if isinstance(item, Text) and bounds.shortest == 1:
            return Texts(most, item.longest)
        return Array(item, bounds.shortest, most)

    def _union(self, annotation: Any, metadata: tuple[object, ...], bounds: _Bounds) -> Field:
        arms = [arm for arm in get_args(annotation) if arm is not NoneType]
        if len(arms) == 1:
            return self.field(arms[0], *metadata)
        if bounds.tag is not None:
            forms: dict[str, Field] = {}
            for arm in arms:
                forms.update(dict.fromkeys(_tags(arm, bounds.tag), self.field(arm)))
            return Tagged(bounds.tag, forms)

        fields = [self.field(arm) for arm in arms]
        match fields:
            case [Text() as text, Texts() as texts] if text.longest == texts.longest:
                return Texts(texts.most, texts.longest, single=True)

        kinds: dict[type, Field] = {}
        for one in fields:
            kinds.update(dict.fromkeys(one.types, one))
        if len(kinds) < sum(len(one.types) for one in fields):
            self.refuse("two of its kinds have the same type in JSON: name a discriminator")
        if any(holds_images(one) for one in fields):
            self.refuse("an image is a field, or a field of an object in an array")
        return OneOf(kinds, "one of: " + ", ".join(dict.fromkeys(one.plural for one in fields)))

    def _bounds(self, metadata: Iterable[object]) -> _Bounds:
        bounds = _Bounds()
        for one in self._flattened(metadata):
            match one:
                case Ge(ge=low):
                    bounds.least = low  # type: ignore[assignment]
                case Le(le=high):
                    bounds.highest = high  # type: ignore[assignment]
                case MinLen(min_length=shortest):
                    bounds.shortest = max(bounds.shortest, shortest)
                case MaxLen(max_length=longest):
                    bounds.longest = longest if bounds.longest is None else min(bounds.longest, longest)
                case FieldInfo(discriminator=str(tag)):
                    bounds.tag = tag
                case _ if one == IMAGE:
                    bounds.is_image = True
                case _ if one == NOT_BLANK:
                    bounds.not_blank = True
                case Gt() | Lt():
                    self.refuse("bounds of numbers include their ends: use ge and le")
                case FieldInfo():
                    pass
                case _:
                    self.refuse(f"{one!r} is not checked by a form")

        return bounds

    def _flattened(self, metadata: Iterable[object]) -> Iterable[object]:
        """Give bounds one by one: those of pydantic's ``Field``, and those that are settings."""
        for one in metadata:
            if isinstance(one, Limit):
                yield one.bound(getattr(self.settings, one.setting))
            elif isinstance(one, FieldInfo):
                yield one
                yield from self._flattened(one.metadata)
            else:
                yield one

    def _bound(self, longest: int | None) -> int:
        if longest is None:
            self.refuse("a text, an array or an object needs an upper bound")
        return longest

    def refuse(self, why: str) -> NoReturn:
        raise TypeError(f"{self.where}: {why}")


def _tags(arm: Any, tag: str) -> tuple[str, ...]:
    """List the values of the discriminator ``tag`` of one form of a union."""
    return get_args(arm.model_fields[tag].annotation)
