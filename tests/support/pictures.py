"""Encoded images for tests: honest ones through Pillow, hostile ones byte by byte."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def photo(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
    """A smooth coloured RGB image with some noise, never black."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([60 + 150 * x / width, 60 + 150 * y / height, 90 + 60 * np.sin(x / 9 + y / 7)], -1)
    return Image.fromarray((base + rng.integers(0, 30, base.shape)).clip(1, 255).astype(np.uint8))


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def png_chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int = 8, colour: int = 0, *chunks: bytes, rows: bytes | None = None) -> bytes:
    """A PNG with the given header; ``chunks`` go before the pixels, which are zero unless ``rows`` is given."""
    if rows is None:
        samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
        deflate = zlib.compressobj(9)
        row = bytes(1 + (width * bits * samples + 7) // 8)
        packed = b"".join(deflate.compress(row) for _ in range(height)) + deflate.flush()
    else:
        packed = zlib.compress(rows)
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = (b"\x89PNG\r\n\x1a\n", png_chunk(b"IHDR", header), *chunks, png_chunk(b"IDAT", packed), png_chunk(b"IEND"))
    return b"".join(parts)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has hardly any pixels."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    idat = png_chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + idat + png_chunk(b"IEND")


GIF_PIXEL = b"\x02\x02\x44\x01\x00"
"""LZW data of one pixel of colour 0."""


def gif(frames: int, width: int = 1, height: int = 1, extra: bytes = b"") -> bytes:
    """A GIF of single-pixel frames on a ``width`` x ``height`` screen; ``extra`` blocks go before the first."""
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes((200, 100, 50, 255, 255, 255))
    frame = b"\x21\xf9\x04\x00\x05\x00\x00\x00" + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + GIF_PIXEL
    return screen + extra + frame * frames + b"\x3b"


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(k + struct.pack("<I", len(d)) + d + b"\0" * (len(d) & 1) for k, d in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def webp_canvas(width: int, height: int) -> bytes:
    """The contents of a VP8X chunk that announces an animation."""
    return b"\x02\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def exif(orientation: int, order: str = "<", at: int = 8, kind: int = 3, count: int = 1) -> bytes:
    """A TIFF block with one entry, as it stands in EXIF."""
    magic = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHIHH", 0x0112, kind, count, orientation, 0)
    return magic + struct.pack(order + "I", at) + struct.pack(order + "H", 1) + entry + bytes(4)


def jpeg_segment(marker: int, data: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data
