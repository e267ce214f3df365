"""Boxes of ISO/IEC 14496-12 and the items of 23008-12: what an AVIF says before anything of it is decoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from services.media.formats.container import corrupt, truncated_at

_MOST_BOXES, _MOST_ITEMS, _MOST_EXTENTS = 512, 1_024, 4_096
_META_FIELDS = 4  # version and flags


@dataclass(frozen=True, slots=True)
class Box:
    """``start`` is where the box begins, ``begin`` where its content does, ``end`` where both end."""

    kind: bytes
    start: int
    begin: int
    end: int


@dataclass(slots=True)
class Items:
    """The items of a ``meta`` box: which is the picture, where the bytes of each are, what is said of them."""

    primary: int = 0
    kinds: dict[int, bytes] = field(default_factory=dict)
    extents: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    own: dict[int, list[int]] = field(default_factory=dict)
    """Indices into ``properties`` by item."""

    def of(self, item: int, kind: bytes) -> bytes | None:
        """The content of a property of an item; ``None`` where it has none of that kind."""
        for index in self.own.get(item, ()):
            if index < len(self.properties) and self.properties[index][0] == kind:
                return self.properties[index][1]
        return None


def boxes(data: bytes, begin: int, end: int) -> Iterator[Box]:
    """The boxes side by side from ``begin`` to ``end``. Raises ``image-corrupt``, ``image-truncated``."""
    at = begin
    for _ in range(_MOST_BOXES):
        if at + 8 > end:
            return
        size, head = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        after = end if size == 0 else at + size
        if after > end:
            if end < len(data):
                raise corrupt("AVIF", "a part of it is larger than the whole.")
            raise truncated_at("AVIF", len(data), after, about=True)
        if after < at + head:
            raise corrupt("AVIF", "a part of it has no length.")
        yield Box(data[at + 4 : at + 8], at, at + head, after)
        at = after
    raise corrupt("AVIF", "it consists of absurdly many parts.")


def read_items(data: bytes, meta: Box) -> Items:
    """What a ``meta`` box says. Raises ``image-corrupt``, ``image-truncated``."""
    items, stored = Items(), Box(b"idat", 0, 0, 0)
    inside = list(boxes(data, meta.begin + _META_FIELDS, meta.end))
    for box in inside:
        if box.kind == b"idat":
            stored = box

    for box in inside:
        reader = _Fields(data, box)
        if box.kind == b"pitm":
            items.primary = reader.number(2 if reader.version() == 0 else 4)
        elif box.kind == b"iinf":
            _read_kinds(data, reader, items)
        elif box.kind == b"iloc":
            _read_extents(reader, items, stored)
        elif box.kind == b"iprp":
            _read_properties(data, box, items)
    return items


class _Fields:
    """Numbers of a box, one after the other; the end of the box is the end of the numbers."""

    def __init__(self, data: bytes, box: Box) -> None:
        self._data = data
        self.at = box.begin
        self.end = box.end

    def number(self, size: int) -> int:
        """The next ``size`` bytes; 0 for none."""
        after = self.at + size
        if after > self.end:
            raise corrupt("AVIF", "a part of it ends too soon.")
        value = int.from_bytes(self._data[self.at : after], "big")
        self.at = after
        return value

    def version(self) -> int:
        """The version of the box; its flags are passed over."""
        return self.number(4) >> 24


def _read_kinds(data: bytes, reader: _Fields, items: Items) -> None:
    reader.number(4 if reader.version() else 2)
    for box in boxes(data, reader.at, reader.end):
        own = _Fields(data, box)
        version = own.version()
        if box.kind != b"infe" or version < 2:
            continue
        item = own.number(2 if version == 2 else 4)
        own.number(2)
        if item in items.kinds:
            raise corrupt("AVIF", f"it says twice what item {item} is.")
        items.kinds[item] = own.number(4).to_bytes(4, "big")


def _read_extents(reader: _Fields, items: Items, stored: Box) -> None:
    """Where the bytes of items are. Raises ``image-corrupt`` where they are neither in the file nor in ``idat``."""
    version = reader.version()
    sizes = reader.number(2)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    count = reader.number(2 if version < 2 else 4)
    if count > _MOST_ITEMS:
        raise corrupt("AVIF", f"it has {count:,} items.")

    for _ in range(count):
        item = reader.number(2 if version < 2 else 4)
        method = reader.number(2) & 15 if version else 0
        reader.number(2)
        base = reader.number(base_size)
        if method == 1:
            base += stored.begin
        elif method:
            raise corrupt("AVIF", "its bytes are kept in an unknown way.")
        extents: list[tuple[int, int]] = []
        extent_count = reader.number(2)
        if extent_count > _MOST_EXTENTS:
            raise corrupt("AVIF", f"an item has {extent_count:,} pieces.")
        for _ in range(extent_count):
            reader.number(index_size)
            offset = reader.number(offset_size)
            extents.append((base + offset, reader.number(length_size)))
        if item in items.extents:
            raise corrupt("AVIF", f"it says twice where item {item} is.")
        items.extents[item] = extents


def _read_properties(data: bytes, iprp: Box, items: Items) -> None:
    for box in boxes(data, iprp.begin, iprp.end):
        if box.kind == b"ipco":
            items.properties = [(own.kind, data[own.begin : own.end]) for own in boxes(data, box.begin, box.end)]
        elif box.kind == b"ipma":
            _read_associations(_Fields(data, box), items)


def _read_associations(reader: _Fields, items: Items) -> None:
    head = reader.number(4)
    version, wide = head >> 24, head & 1
    count = reader.number(4)
    if count > _MOST_ITEMS:
        raise corrupt("AVIF", f"it has properties of {count:,} items.")
    for _ in range(count):
        item = reader.number(4 if version else 2)
        indices = [reader.number(2 if wide else 1) & (0x7FFF if wide else 0x7F) for _ in range(reader.number(1))]
        items.own.setdefault(item, []).extend(index - 1 for index in indices if index)
