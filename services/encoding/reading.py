"""What a text encoder reads of texts: which it cuts, of which it knows no part, and which labels are one text to it."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson

from services.encoding.templates import fill
from services.encoding.texts import TextEncoder
from services.errors import Kind, Problem
from services.text.tokenizer import Tokenizer, Tokens

_AT_ONCE = 2_048
"""Texts whose ids are held together while it is looked which of them are cut."""

_INLINE_CHARS = 4_000
"""Label sets whose texts have more characters than this together are read in a thread."""

_SETS_KEPT, _LARGEST_KEPT = 1_024, 1_000
"""Label sets whose reading is remembered, and the most things that are said of one of them."""

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Truncated:
    """A text or label was cut: of ``tokens`` the model reads ``kept``. ``templates`` are those in which a label was."""

    index: int
    tokens: int
    kept: int
    templates: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """Something else that whoever asked should know; ``indices`` of the texts or labels that it is about."""

    code: str
    detail: str
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """All that is to be said; empty where every text is read whole."""

    truncated: tuple[Truncated, ...] = ()
    notes: tuple[Note, ...] = ()

    def refuse_cuts(self, pointer: str, *, within: bool) -> None:
        """Raise ``text-too-long`` for the first text that was cut, at its place ``within`` ``pointer``."""
        if not self.truncated:
            return
        first = self.truncated[0]
        more = f" {len(self.truncated) - 1:,} more are too long as well." if len(self.truncated) > 1 else ""
        what, place = "Text", ""
        if first.templates is not None:
            what, place = "Label", f" in template {first.templates[0]}"
        raise Problem(
            Kind.INVALID,
            "text-too-long",
            "A text is longer than the model reads",
            f"{what} {first.index} has {first.tokens:,} tokens{place}; the model reads {first.kept:,}.{more}",
            pointer=f"{pointer}/{first.index}" if within else pointer,
            remedy="Shorten it, or leave truncate out: then it is cut, and the answer says so.",
        )


WHOLE = Reading()
"""Nothing is to be said."""


def read_texts(tokens: Tokens) -> Reading:
    """The reading of texts that are embedded as they are."""
    truncated = tuple(Truncated(index, whole, len(tokens.ids[index])) for index, whole in tokens.cut.items())
    if not tokens.unread:
        return Reading(truncated)
    detail = f"The model's vocabulary holds no part of {_several('text', tokens.unread)}: all such have one embedding."
    return Reading(truncated, (Note("input-unread", detail, tokens.unread),))


class LabelReadings:
    """Readings of label sets, remembered: rows that are kept are told of as those that were just computed."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, Reading] = OrderedDict()

    async def get(self, encoder: TextEncoder, source: str, labels: Sequence[str], templates: Sequence[str]) -> Reading:
        """Return what the encoder reads of ``labels`` in ``templates``; ``source`` says which encoder it is.

        Raises what tokenising and filling templates raise.
        """
        content = orjson.dumps([source, labels, templates])
        key = hashlib.blake2b(content, digest_size=16).digest()
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            return kept

        tokenizer = await encoder.tokenizer()
        if len(content) * len(templates) <= _INLINE_CHARS:
            reading = read_labels(tokenizer, labels, templates)
        else:
            reading = await asyncio.to_thread(read_labels, tokenizer, labels, templates)

        said = sum(len(one.templates or ()) for one in reading.truncated) + sum(len(n.indices) for n in reading.notes)
        if said <= _LARGEST_KEPT:
            self._kept[key] = reading
            while len(self._kept) > _SETS_KEPT:
                self._kept.popitem(last=False)
        return reading


def read_labels(tokenizer: Tokenizer, labels: Sequence[str], templates: Sequence[str]) -> Reading:
    """The reading of labels, each in every template."""
    truncated = () if _surely_whole(tokenizer, labels, templates) else _cut(tokenizer, labels, templates)
    unread = tuple(index for begin, part in _parts(labels) for index in _from(begin, tokenizer.tokenize(part).unread))
    notes = []
    if unread:
        shown = ", ".join(repr(labels[index][:40]) for index in unread[:_SHOWN])
        some = _several("label", unread)
        detail = f"The model's vocabulary holds no part of {some} ({shown}): the scores say nothing."
        notes.append(Note("label-unread", detail, unread))

    for group in _alike(tokenizer, labels, templates):
        if not set(group) <= set(unread):
            shown = ", ".join(repr(labels[index][:40]) for index in group[:_SHOWN])
            same = _several("label", group).capitalize()
            detail = f"{same} are the same text to the model ({shown}): they score alike."
            notes.append(Note("labels-alike", detail, group))
    return Reading(truncated, tuple(notes))


def _surely_whole(tokenizer: Tokenizer, labels: Sequence[str], templates: Sequence[str]) -> bool:
    """Return whether even the longest label fits in the longest template, without filling in one of them."""
    longest = max(labels, key=len) + max(templates, key=len)
    return tokenizer.never_cut(longest) and all(map(str.isascii, labels)) and all(map(str.isascii, templates))


def _cut(tokenizer: Tokenizer, labels: Sequence[str], templates: Sequence[str]) -> tuple[Truncated, ...]:
    doubtful: list[tuple[int, int, str]] = []
    for index, texts in enumerate(fill(labels, templates)):
        doubtful += [(index, place, text) for place, text in enumerate(texts) if not tokenizer.never_cut(text)]

    found: dict[int, Truncated] = {}
    for begin in range(0, len(doubtful), _AT_ONCE):
        part = doubtful[begin : begin + _AT_ONCE]
        for offset, whole in tokenizer.tokenize([text for _, _, text in part]).cut.items():
            index, place, _ = part[offset]
            before = found.get(index, Truncated(index, 0, tokenizer.spec.max_length, ()))
            places = (*(before.templates or ()), place)
            found[index] = Truncated(index, max(before.tokens, whole), before.kept, places)
    return tuple(found.values())


def _alike(tokenizer: Tokenizer, labels: Sequence[str], templates: Sequence[str]) -> list[tuple[int, ...]]:
    """Groups of labels whose texts are the same tokens in every template."""
    groups = [tuple(range(len(labels)))]
    for template in templates:
        split: list[tuple[int, ...]] = []
        for group in groups:
            split += _same_tokens(tokenizer, labels, template, group)
        groups = split
        if not groups:
            break
    return groups


def _same_tokens(
    tokenizer: Tokenizer, labels: Sequence[str], template: str, group: Sequence[int]
) -> list[tuple[int, ...]]:
    same: dict[bytes, list[int]] = {}
    for begin in range(0, len(group), _AT_ONCE):
        part = group[begin : begin + _AT_ONCE]
        texts = [own[0] for own in fill([labels[index] for index in part], [template])]
        for index, ids in zip(part, tokenizer.tokenize(texts).ids, strict=True):
            same.setdefault(orjson.dumps(ids), []).append(index)
    return [tuple(indices) for indices in same.values() if len(indices) > 1]


def _parts(texts: Sequence[str]) -> Iterable[tuple[int, Sequence[str]]]:
    return ((begin, texts[begin : begin + _AT_ONCE]) for begin in range(0, len(texts), _AT_ONCE))


def _from(begin: int, indices: Iterable[int]) -> Iterable[int]:
    return (begin + index for index in indices)


def _several(what: str, indices: Sequence[int]) -> str:
    """``labels 1, 4 and 7``; the first five of many."""
    if len(indices) == 1:
        return f"{what} {indices[0]}"
    if len(indices) > _SHOWN:
        return f"{what}s {', '.join(map(str, indices[:_SHOWN]))} and {len(indices) - _SHOWN:,} more"
    return f"{what}s {', '.join(map(str, indices[:-1]))} and {indices[-1]}"
