"""JPEG: segments up to the frame header (ITU-T T.81, annex B)."""

from __future__ import annotations

import re

from services.media.formats.container import Container, corrupt, truncated, unsupported
from services.media.intake import Limits

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_DECODABLE = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_PROGRESSIVE = frozenset({0xC2, 0xCA})
_SCAN, _END = 0xDA, 0xD9
_STANDALONE = frozenset((0x00, 0x01, *range(0xD0, 0xD9)))
_NOT_FOR_DECODER = frozenset((*range(0xE1, 0xEE), 0xEF, 0xFE))
"""Application segments and comments, but for JFIF (E0) and Adobe (EE): those two say which colour space it is."""
_MAX_SCANS = 256
"""A progressive file needs 10 or so. Each scan costs a pass over all coefficients, however few bytes it has."""
_MAX_SEGMENTS = 4_096
_TO_MARKER = re.compile(rb"[^\xff]*\xff+")


def read(data: bytes, limits: Limits) -> Container:
    """The container of a JPEG. Application segments, comments and fill bytes are cut out of ``pixels``."""
    end = len(data)
    at, kept_from = 2, 0
    kept: list[bytes] = []
    exif = b""
    width = height = 0
    progressive = False
    for _ in range(_MAX_SEGMENTS):
        gap = _TO_MARKER.match(data, at)
        if gap is None or gap.end() >= end:
            raise truncated("JPEG", f"JPEG ends after {end:,} bytes, inside its headers.")
        begin = gap.end() - 1
        if begin > at:
            kept.append(data[kept_from:at])
            kept_from = begin
        marker = data[begin + 1]
        at = begin + 2
        if marker == _SCAN:
            break
        if marker == _END:
            raise corrupt("JPEG", "it ends before any pixel data.")
        if marker in _STANDALONE:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        if at + 2 > end or at + length > end:
            raise truncated("JPEG", f"JPEG ends after {end:,} bytes, inside its headers.")
        if length < 2:
            raise corrupt("JPEG", f"segment {marker:02X} at byte {begin:,} has no length.")
        if marker in _NOT_FOR_DECODER:
            if marker == 0xE1 and not exif and data[at + 2 : at + 8] == b"Exif\0\0":
                exif = data[at + 8 : at + length]
            kept.append(data[kept_from:begin])
            kept_from = at + length
        elif marker in _FRAMES:
            if width:
                raise corrupt("JPEG", "it has two frame headers.")
            width, height = _frame(data[at + 2 : at + length], marker)
            limits.check_size("JPEG", width, height)
            progressive = marker in _PROGRESSIVE
        at += length
    else:
        raise corrupt("JPEG", f"it has more than {_MAX_SEGMENTS:,} segments before its pixel data.")

    if not width:
        raise corrupt("JPEG", "its pixel data comes before its size.")
    if progressive and data.count(b"\xff\xda", at) >= _MAX_SCANS:
        raise unsupported("JPEG", f"it has more than {_MAX_SCANS} scans.")

    if kept:
        kept.append(data[kept_from:])
        data = b"".join(kept)

    return Container("JPEG", width, height, end, data, exif)


def _frame(header: bytes, marker: int) -> tuple[int, int]:
    if len(header) < 6:
        raise corrupt("JPEG", "its frame header is too short.")
    if marker not in _DECODABLE:
        raise unsupported("JPEG", "it is lossless or hierarchical.")
    if header[0] != 8:
        raise unsupported("JPEG", f"it has {header[0]} bits a sample instead of 8.")
    if header[5] not in (1, 3, 4):
        raise unsupported("JPEG", f"it has {header[5]} colour components instead of 1, 3 or 4.")
    return int.from_bytes(header[3:5], "big"), int.from_bytes(header[1:3], "big")
