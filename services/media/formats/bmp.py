"""BMP: the header, which says exactly how long the file has to be."""

from __future__ import annotations

import struct

from services.media.formats.container import Container, corrupt, truncated, truncated_at, unsupported
from services.media.intake import Limits

_CORE, _INFO = 12, 40
_HEADERS = frozenset((_CORE, 16, _INFO, 52, 56, 64, 108, 124))
_UNCOMPRESSED = frozenset((0, 3, 6))  # RGB and the two bit-field forms


def accepts(data: bytes) -> bool:
    """Two letters are little to go by: the header's size has to be a known one too."""
    return len(data) < 18 or int.from_bytes(data[14:18], "little") in _HEADERS


def read(data: bytes, limits: Limits) -> Container:
    """The container of an uncompressed BMP."""
    end = len(data)
    if end < 26:
        raise truncated_at("BMP", end, 54, about=True)

    offset, header = struct.unpack_from("<II", data, 10)
    if end < 14 + header:
        raise truncated("BMP", f"BMP ends after {end:,} bytes, inside its header.")

    compression = 0
    if header == _CORE:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
        height = abs(height)  # negative: rows from the top
        if header >= _INFO:
            (compression,) = struct.unpack_from("<I", data, 30)

    limits.check_size("BMP", width, height)
    if compression not in _UNCOMPRESSED:
        # Pillow expands run lengths in Python, so that a few megabytes would hold a core for seconds.
        raise unsupported("BMP", "it is compressed.")

    if bits not in (1, 4, 8, 16, 24, 32):
        raise corrupt("BMP", f"it has {bits} bits a pixel.")

    row = (width * bits + 7) // 8
    stride = (row + 3) // 4 * 4
    if (needs := offset + stride * (height - 1) + row) > end:
        raise truncated_at("BMP", end, needs)

    return Container("BMP", width, height, end, data)
