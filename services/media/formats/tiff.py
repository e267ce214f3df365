"""TIFF and BigTIFF: the directory of the one picture in it, rewritten so that a decoder sees no more (TIFF 6.0)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from services.errors import Kind, Problem
from services.media.formats.container import Container, corrupt, truncated, truncated_at, unsupported
from services.media.intake import Limits

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIP_OFFSETS, _ORIENTATION, _SAMPLES, _ROWS, _STRIP_BYTES = 273, 274, 277, 278, 279
_PLANAR, _PREDICTOR, _COLORMAP = 284, 317, 320
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES, _EXTRA, _FORMAT = 322, 323, 324, 325, 338, 339
_SUBFILE, _JPEG_TABLES, _SUBSAMPLING, _BLACK_WHITE = 254, 347, 530, 532
_PIECES = (_STRIP_OFFSETS, _STRIP_BYTES, _TILE_OFFSETS, _TILE_BYTES)

_MOST_VALUES = {
    _WIDTH: 1, _HEIGHT: 1, _BITS: 1_024, _COMPRESSION: 1, _PHOTOMETRIC: 1, _FILL_ORDER: 1, _SAMPLES: 1, _ROWS: 1,
    _PLANAR: 1, _PREDICTOR: 1, _COLORMAP: 768, _TILE_WIDTH: 1, _TILE_HEIGHT: 1, _EXTRA: 1_024, _FORMAT: 1_024,
    _JPEG_TABLES: 1 << 16, _SUBSAMPLING: 2, _BLACK_WHITE: 6, _ORIENTATION: 1, _SUBFILE: 1,
}  # fmt: skip
"""The tags that say what the pixels are, and how many values each may have. Everything else stays away."""

_KINDS = {1: "B", 3: "H", 4: "I", 7: "B", 13: "I", 16: "Q", 18: "Q"}
_RATIONAL = 5
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}

_RAW, _JPEG = 1, 7
_COMPRESSIONS = {_RAW: "none", 5: "LZW", _JPEG: "JPEG", 8: "deflate", 32773: "PackBits", 32946: "deflate"}
_OTHER_COMPRESSIONS = {
    2: "CCITT", 3: "CCITT fax", 4: "CCITT fax", 6: "JPEG of the old kind", 34676: "SGI LogLuv", 34712: "JPEG 2000",
    34887: "LERC", 34925: "LZMA", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL",
}  # fmt: skip

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}
"""Samples of a pixel, besides those that are alpha or of no known meaning."""

_MOST_EXTRA = {_RGB: 3}
"""Samples beside the colours that are passed over; one with other colours."""

_BIT_DEPTHS = {
    _WHITE_IS_ZERO: (1, 2, 4, 8),
    _BLACK_IS_ZERO: (1, 2, 4, 8, 16),
    _RGB: (8, 16),
    _PALETTE: (1, 2, 4, 8),
    _CMYK: (8, 16),
    _YCBCR: (8,),
}
_FORMATS = {2: "signed", 3: "floating point", 5: "complex", 6: "complex floating point"}

_MOST_PAGES, _MOST_TAGS = 64, 4_096

Tags = Mapping[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class _Reader:
    """``order`` is how :mod:`struct` names the byte order; ``big`` says that offsets have 8 bytes."""

    data: bytes
    order: str
    big: bool

    def numbers(self, kind: str, count: int, at: int) -> tuple[int, ...]:
        """``count`` numbers at byte ``at``. Raises ``image-truncated``."""
        need = at + struct.calcsize("<" + kind) * count
        if need > len(self.data):
            raise truncated_at("TIFF", len(self.data), need)
        return struct.unpack_from(f"{self.order}{count}{kind}", self.data, at)

    def offset(self, at: int) -> int:
        return self.numbers("Q" if self.big else "I", 1, at)[0]


def accepts(data: bytes) -> bool:
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read(data: bytes, limits: Limits) -> Container:
    """The container of a TIFF of one picture; ``pixels`` is a TIFF with one directory, of known tags alone.

    Previews and masks beside the picture are passed over; several pages are refused, since none of them is meant more
    than the others.
    """
    reader = _Reader(data, "<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+"))
    at = _first_directory(reader)
    tags = _only_page(reader, at)

    width, height = _one(tags, _WIDTH, 0), _one(tags, _HEIGHT, 0)
    limits.check_size("TIFF", width, height)
    samples = _check_samples(tags)
    _check_pieces(reader, tags, width, height, samples, limits)

    exif = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, _ORIENTATION, 3, 1, _one(tags, _ORIENTATION, 1) & 0xFFFF, 0, 0)
    return Container("TIFF", width, height, len(data), _rewritten(reader, tags), exif)


def _first_directory(reader: _Reader) -> int:
    if not reader.big:
        return reader.offset(4)
    if reader.numbers("H", 2, 4) != (8, 0):
        raise corrupt("TIFF", "its header is not that of a BigTIFF.")
    return reader.offset(8)


def _only_page(reader: _Reader, at: int) -> Tags:
    """The tags of the picture. Raises ``image-several-pages``, ``image-corrupt``, ``image-truncated``."""
    pages: list[Tags] = []
    seen: set[int] = set()
    while at:
        if at in seen or len(seen) >= _MOST_PAGES:
            raise corrupt("TIFF", f"its directories run in a circle, or are more than {_MOST_PAGES}.")
        seen.add(at)
        tags, at = _directory(reader, at)
        if not _one(tags, _SUBFILE, 0) & 0b101:  # neither a smaller copy nor a mask
            pages.append(tags)

    if not pages:
        raise corrupt("TIFF", "it has no picture.")
    if len(pages) > 1:
        raise Problem(
            Kind.INVALID,
            "image-several-pages",
            "Image has several pages",
            f"The TIFF has {len(pages)} pages, and one picture is read.",
            remedy="Save the page that is meant as a file of its own.",
        )
    return pages[0]


def _directory(reader: _Reader, at: int) -> tuple[Tags, int]:
    """The known tags of a directory, and where the next one is (0: nowhere)."""
    head, entry, inline = ("Q", 20, 8) if reader.big else ("H", 12, 4)
    (count,) = reader.numbers(head, 1, at)
    if count > _MOST_TAGS:
        raise corrupt("TIFF", f"a directory has {count:,} tags.")

    begin = at + struct.calcsize("<" + head)
    tags: dict[int, tuple[int, ...]] = {}
    for place in range(begin, begin + entry * count, entry):
        tag, kind = reader.numbers("H", 2, place)
        if tag not in _MOST_VALUES and tag not in _PIECES:
            continue
        values = reader.offset(place + 4)
        size = _SIZES.get(kind, 0) * values
        if tag in _MOST_VALUES and values > _MOST_VALUES[tag]:
            raise corrupt("TIFF", f"its tag {tag} has {values:,} values.")
        where = place + entry - inline
        if size > inline:
            where = reader.offset(where)
        if kind == _RATIONAL:
            tags[tag] = reader.numbers("I", 2 * values, where)
        elif kind in _KINDS:
            tags[tag] = reader.numbers(_KINDS[kind], values, where)
        else:
            raise corrupt("TIFF", f"its tag {tag} is of a wrong type.")

    return tags, reader.offset(begin + entry * count)


def _one(tags: Tags, tag: int, default: int) -> int:
    values = tags.get(tag)
    return values[0] if values else default


def _check_samples(tags: Tags) -> int:
    """How many samples a pixel has. Raises ``image-unsupported`` for what is not decoded right, by its name."""
    compression, photometric = _one(tags, _COMPRESSION, _RAW), _one(tags, _PHOTOMETRIC, -1)
    if compression not in _COMPRESSIONS:
        name = _OTHER_COMPRESSIONS.get(compression, f"scheme {compression}")
        raise unsupported("TIFF", f"it is compressed by {name}.")

    format_ = max(tags.get(_FORMAT) or (1,))
    if format_ in _FORMATS:
        raise unsupported("TIFF", f"its samples are {_FORMATS[format_]} numbers, of which black and white are unknown.")
    if photometric not in _COLOURS:
        raise unsupported("TIFF", f"its colours are of kind {photometric}, not gray, RGB, CMYK, YCbCr or a palette.")

    colours, extra = _COLOURS[photometric], len(tags.get(_EXTRA) or ())
    samples = _one(tags, _SAMPLES, 1)
    if extra > _MOST_EXTRA.get(photometric, 1):
        raise unsupported("TIFF", f"it has {samples} bands; one, three, or four with transparency, are read.")
    if samples != colours + extra and not (photometric == _RGB and samples == 4 and not extra):
        raise unsupported("TIFF", f"it has {samples} bands; one, three, or four with transparency, are read.")

    bits = tags.get(_BITS) or (1,)
    depths = _BIT_DEPTHS[photometric]
    if len(set(bits)) > 1 or bits[0] not in depths or len(bits) not in (1, samples):
        shown, read = "/".join(map(str, bits[:4])), ", ".join(map(str, depths))
        raise unsupported("TIFF", f"it has {shown} bits a sample, where {read} are read.")
    if _one(tags, _PLANAR, 1) == 2 and samples > 1 and bits[0] != 8:
        raise unsupported("TIFF", f"it keeps its {bits[0]}-bit colours apart (planar).")
    if _one(tags, _PREDICTOR, 1) not in (1, 2) or _one(tags, _FILL_ORDER, 1) != 1:
        raise unsupported("TIFF", "its samples are predicted or ordered in an unusual way.")
    if photometric == _PALETTE and len(tags.get(_COLORMAP) or ()) != 3 << bits[0]:
        raise corrupt("TIFF", "its palette is missing, or of another size.")
    return samples


def _check_pieces(reader: _Reader, tags: Tags, width: int, height: int, samples: int, limits: Limits) -> None:
    """Strips or tiles: as many as there must be, none larger than a picture may be, all of them in the file."""
    tiled = _TILE_OFFSETS in tags
    across, down = 1, 1
    if tiled:
        wide, high = _one(tags, _TILE_WIDTH, 0), _one(tags, _TILE_HEIGHT, 0)
        if wide < 16 or high < 16 or wide * high > max(limits.max_pixels, 1 << 16):
            raise corrupt("TIFF", f"its tiles are {wide:,} x {high:,} pixels.")
        across, down = -(-width // wide), -(-height // high)
    else:
        rows = _one(tags, _ROWS, height)
        if rows < 1:
            raise corrupt("TIFF", "its strips have no rows.")
        down = -(-height // min(rows, height))

    offsets = tags.get(_TILE_OFFSETS if tiled else _STRIP_OFFSETS) or ()
    lengths = tags.get(_TILE_BYTES if tiled else _STRIP_BYTES) or ()
    planes = samples if _one(tags, _PLANAR, 1) == 2 else 1
    if len(offsets) != across * down * planes or len(lengths) != len(offsets):
        raise corrupt("TIFF", f"it has {len(offsets):,} strips or tiles where it needs {across * down * planes:,}.")

    need = max(offset + length for offset, length in zip(offsets, lengths, strict=True))
    if need > len(reader.data):
        raise truncated_at("TIFF", len(reader.data), need)
    if _one(tags, _COMPRESSION, _RAW) == _RAW and not tiled:
        bits = sum(tags.get(_BITS) or (1,)) if len(tags.get(_BITS) or ()) > 1 else _one(tags, _BITS, 1) * samples
        row = (width * bits // planes + 7) // 8
        if sum(lengths) < row * height * planes:
            raise truncated("TIFF", f"TIFF has {sum(lengths):,} bytes of pixels and needs {row * height * planes:,}.")


def _rewritten(reader: _Reader, tags: Tags) -> bytes:
    """A classic TIFF: the file as it is, behind it one directory, which the head names.

    What the old directories held is in it still, but nothing leads there.
    """
    order = reader.order
    at = len(reader.data) + len(reader.data) % 2
    entries: list[bytes] = []
    values = b""
    kept = {tag: own for tag, own in sorted(tags.items()) if tag not in (_SUBFILE, _ORIENTATION) and own}
    behind = at + 2 + 12 * len(kept) + 4
    for tag, own in kept.items():
        if tag == _BLACK_WHITE:
            kind, count, content = _RATIONAL, len(own) // 2, struct.pack(f"{order}{len(own)}I", *own)
        elif tag == _JPEG_TABLES:
            kind, count, content = 7, len(own), bytes(own)
        else:
            wide = tag in (*_PIECES, _WIDTH, _HEIGHT, _ROWS, _TILE_WIDTH, _TILE_HEIGHT)
            kind, code = (4, "I") if wide else (3, "H")
            most = 0xFFFFFFFF if wide else 0xFFFF
            count, content = len(own), struct.pack(f"{order}{len(own)}{code}", *(min(value, most) for value in own))
        if len(content) > 4:
            place, content = behind + len(values), content + b"\0" * (len(content) % 2)
            values += content
            content = struct.pack(order + "I", place)
        entries.append(struct.pack(order + "HHI", tag, kind, count) + content.ljust(4, b"\0"))

    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", at)
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)
    return head + reader.data[8:].ljust(at - 8, b"\0") + directory + values
