"""The one thing wanted from EXIF: which way is up (CIPA DC-008, tag 0x0112)."""

from __future__ import annotations

import struct

from PIL import Image

_ORIENTATION, _SHORT = 0x0112, 3
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def turn(exif: bytes) -> Image.Transpose | None:
    """How to turn the stored image so that it is as displayed; ``None`` when it is so, or when EXIF cannot be read.

    ``exif`` is a TIFF block. Only the entries of its first directory are looked at, so its size costs nothing.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        return None

    (at,) = struct.unpack_from(order + "I", exif, 4)
    if at + 2 > len(exif):
        return None

    (count,) = struct.unpack_from(order + "H", exif, at)
    entry = struct.Struct(order + "HHIH")
    for begin in range(at + 2, min(at + 2 + 12 * min(count, 512), len(exif) - 9), 12):
        tag, kind, values, value = entry.unpack_from(exif, begin)
        if tag == _ORIENTATION:
            return _TURNS.get(value) if kind == _SHORT and values == 1 else None

    return None
