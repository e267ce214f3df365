"""PNG and APNG: chunks, without their contents (W3C PNG, third edition)."""

from __future__ import annotations

import struct

from services.media.formats.container import Container, corrupt, truncated, truncated_at
from services.media.intake import Limits

_NEEDED_BY_DECODER = frozenset((b"PLTE", b"tRNS", b"IDAT", b"IEND"))  # a second IHDR would change the size
_PALETTE = 3  # a colour type
_CHUNK = struct.Struct(">I4s")


def read(data: bytes, limits: Limits) -> Container:
    """The container of a PNG; of an APNG the default image. Whatever is not pixels is cut out of ``pixels``."""
    end = len(data)
    if end < 33:
        raise truncated_at("PNG", end, 33, about=True)
    length, kind = _CHUNK.unpack_from(data, 8)
    if kind != b"IHDR" or length != 13:
        raise corrupt("PNG", "its first chunk is not a header.")
    width, height = struct.unpack_from(">II", data, 16)
    limits.check_size("PNG", width, height)

    kept: list[bytes] = []
    kept_from, at = 0, 33
    exif = b""
    pixels = ended = False
    palette = data[25] != _PALETTE  # whether it is there, or not needed
    for _ in range(end // 256 + 1_024):  # encoders fill their chunks: many small ones are an attack
        if at + 8 > end:
            break
        length, kind = _CHUNK.unpack_from(data, at)
        after = at + 12 + length
        if after > end:
            # A cut tail that no decoder looks at does no harm; anything else is missing pixels.
            if kind in _NEEDED_BY_DECODER:
                raise truncated_at("PNG", end, after, about=True)
            break
        if kind not in _NEEDED_BY_DECODER:
            if kind == b"acTL" and length >= 4 and not pixels:
                limits.check_frames("PNG", int.from_bytes(data[at + 8 : at + 12], "big"))
            elif kind == b"eXIf" and not exif:
                exif = data[at + 8 : at + 8 + length]
            kept.append(data[kept_from:at])
            kept_from = after
        pixels = pixels or kind == b"IDAT"
        palette = palette or kind == b"PLTE"
        at = after
        if kind == b"IEND":
            ended = True
            break
    else:
        raise corrupt("PNG", "it consists of absurdly many small chunks.")
    if not pixels:
        if ended:
            raise corrupt("PNG", "it has no pixel data.")
        raise truncated("PNG", f"PNG ends after {end:,} bytes, before its pixel data.")
    if not palette:
        raise corrupt("PNG", "its palette is missing.")
    if kept or at < end:
        kept.append(data[kept_from:at])
        data = b"".join(kept)
    return Container("PNG", width, height, end, data, exif, ended)
