"""AVIF: the still picture of a file, its size from the boxes and from the streams themselves (AVIF 1.1, MIAF)."""

from __future__ import annotations

import struct

from services.errors import Kind, Problem
from services.media.formats.av1 import frames_and_pixels
from services.media.formats.container import Container, corrupt, truncated, truncated_at, unsupported
from services.media.formats.isobmff import Box, Items, boxes, read_items
from services.media.intake import Limits

_BRANDS = (b"avif", b"avis")
_NEUTRAL = b"mif1"
_STREAM, _GRID = b"av01", b"grid"

_WORK = 8
"""Times the pixels that a picture may have: transparency, tiles that reach over the edge, layers."""

_ORIENTATIONS = {
    (0, None): 1, (1, None): 8, (2, None): 3, (3, None): 6,
    (0, 0): 4, (1, 0): 5, (2, 0): 2, (3, 0): 7,
    (0, 1): 2, (1, 1): 7, (2, 1): 4, (3, 1): 5,
}  # fmt: skip
"""Quarter turns to the left and then a mirror (0: top and bottom change places), as EXIF counts orientations."""


def accepts(data: bytes) -> bool:
    """A file type box whose brands name AVIF; HEIC has the same box and other brands."""
    if data[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(data[:4], "big"), 512)
    brands = [data[at : at + 4] for at in (8, *range(16, end - 3, 4))]
    return any(brand in _BRANDS for brand in brands)


def read(data: bytes, limits: Limits) -> Container:
    """The container of an AVIF; of a sequence the still picture that it shows first. ``pixels`` has no other frames."""
    found = {box.kind: box for box in boxes(data, 0, len(data))}
    if b"meta" not in found:
        if b"moov" in found:
            raise unsupported("AVIF", "it is a film without a still picture.")
        raise truncated("AVIF", f"AVIF ends after {len(data):,} bytes, before it says what it holds.")

    items = read_items(data, found[b"meta"])
    kind, size = items.kinds.get(items.primary), items.of(items.primary, b"ispe")
    if kind not in (_STREAM, _GRID):
        raise unsupported("AVIF", "its picture is neither one AV1 frame nor a grid of them.")
    if size is None or len(size) < 12:
        raise corrupt("AVIF", "it does not say how large its picture is.")
    if items.of(items.primary, b"clap") is not None:
        raise unsupported("AVIF", "it is cropped by its container.")

    width, height = struct.unpack_from(">II", size, 4)
    limits.check_size("AVIF", width, height)
    _check_work(data, items, limits)
    return Container("AVIF", width, height, len(data), _stilled(data, found), _exif(items))


def _check_work(data: bytes, items: Items, limits: Limits) -> None:
    """Bound what decoding costs. Raises ``image-too-many-pixels``, ``image-corrupt``, ``image-truncated``."""
    for kind, content in items.properties:
        if kind == b"ispe" and len(content) >= 12:
            wide, high = struct.unpack_from(">II", content, 4)
            if wide * high > limits.max_pixels:
                limits.check_size("AVIF", wide, high)

    work = 0
    for item, extents in items.extents.items():
        if sum(length for _, length in extents) > len(data):
            raise corrupt("AVIF", "the pieces of an item are larger than the file.")
        if items.kinds.get(item) != _STREAM:
            continue
        need = max((offset + length for offset, length in extents), default=0)
        if need > len(data):
            raise truncated_at("AVIF", len(data), need)
        stream = b"".join(data[offset : offset + length if length else len(data)] for offset, length in extents)
        frames, pixels = frames_and_pixels(stream)
        work += frames * pixels
        if pixels > limits.max_pixels or work > _WORK * limits.max_pixels:
            raise Problem(
                Kind.INVALID,
                "image-too-many-pixels",
                "Image has too many pixels",
                f"AVIF with {work:,} pixels in its streams; a picture may have {limits.max_pixels:,}.",
                remedy="Scale the image down before sending it.",
            )


def _stilled(data: bytes, found: dict[bytes, Box]) -> bytes:
    """The file with its film, if it has one, made unreadable: no decoder takes that for the picture."""
    film = found.get(b"moov")
    head = found[b"ftyp"]
    if film is None and b"avis" not in data[head.begin : head.end]:
        return data
    still = bytearray(data)
    for at in (head.begin, *range(head.begin + 8, head.end - 3, 4)):
        if still[at : at + 4] == b"avis":
            still[at : at + 4] = b"avif" if at == head.begin else _NEUTRAL
    if film is not None:
        still[film.start + 4 : film.start + 8] = b"free"
    return bytes(still)


def _exif(items: Items) -> bytes:
    """How the picture is turned, as an EXIF block. An AVIF says it in properties; what its own EXIF says is void."""
    turned, mirrored = items.of(items.primary, b"irot"), items.of(items.primary, b"imir")
    if not turned and not mirrored:
        return b""
    turns, axis = turned[0] & 3 if turned else 0, mirrored[0] & 1 if mirrored else None
    return b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, _ORIENTATIONS[turns, axis], 0, 0)
