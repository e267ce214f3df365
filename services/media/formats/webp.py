"""WebP: RIFF chunks and the sizes in them (RFC 9649)."""

from __future__ import annotations

import struct

from services.media.formats.container import Container, corrupt, truncated_at
from services.media.intake import Limits

_CHUNK = struct.Struct("<4sI")


def read(data: bytes, limits: Limits) -> Container:
    """The container of a WebP; the canvas is the size, frames are counted without being opened."""
    end = len(data)
    whole = int.from_bytes(data[4:8], "little") + 8
    if whole > end:
        raise truncated_at("WebP", end, whole)

    end = whole
    if end < 30:
        raise corrupt("WebP", "it is too short to hold an image.")

    width, height = _size(data)
    limits.check_size("WebP", width, height)
    exif = b""
    if data[12:16] == b"VP8X":
        frames, at = 0, 12
        # Counting stops at the limit, so that a chain of empty chunks is the only way to make it long.
        for _ in range(2 * limits.max_frames + 64):
            if at + 8 > end:
                break
            kind, length = _CHUNK.unpack_from(data, at)
            if kind == b"ANMF":
                frames += 1
                limits.check_frames("WebP", frames)
            elif kind == b"EXIF":
                exif = data[at + 8 : at + 8 + length].removeprefix(b"Exif\0\0")
            at += 8 + length + (length & 1)
        else:
            raise corrupt("WebP", "it consists of absurdly many chunks.")

    return Container("WebP", width, height, len(data), data[:end], exif)


def _size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L" and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    raise corrupt("WebP", "its first chunk is not an image.")
