"""The image formats that are accepted: what their containers say, read before any pixel is decoded."""

from __future__ import annotations

from services.errors import Kind, Problem
from services.media.formats import avif, bmp, gif, jpeg, png, tiff, webp
from services.media.formats.container import Container
from services.media.intake import Limits

__all__ = ["Container", "read_container"]

_LOOKS_LIKE = (
    (b"%PDF", "a PDF"),
    (b"<svg", "an SVG"),
    (b"<?xml", "an XML or SVG text"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
    (b"{", "a JSON text"),
    (b"PK\3\4", "a ZIP archive"),
    (b"\0\0\1\0", "a Windows icon"),
    (b"8BPS", "a Photoshop file"),
    (b"\xff\x0a", "a JPEG XL"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL"),
    (b"data:", "a data URI inside base64"),
    (b"/9j/", "base64 inside base64"),
    (b"iVBORw", "base64 inside base64"),
)
_BRANDS = ((b"hei", "a HEIC"), (b"mif1", "a HEIC"))


def read_container(data: bytes, limits: Limits) -> Container:
    """The container of an encoded image, by its magic bytes, within ``limits``; nothing is decoded.

    Raises ``image-unrecognised``, ``image-truncated``, ``image-corrupt``, ``image-unsupported``,
    ``image-several-pages``, and what ``limits`` raises.
    """
    limits.check_bytes(len(data))
    if data.startswith(b"\xff\xd8\xff"):
        return jpeg.read(data, limits)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return png.read(data, limits)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return webp.read(data, limits)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return gif.read(data, limits)
    if data.startswith(b"BM") and bmp.accepts(data):
        return bmp.read(data, limits)
    if tiff.accepts(data):
        return tiff.read(data, limits)
    if avif.accepts(data):
        return avif.read(data, limits)

    raise Problem(
        Kind.INVALID,
        "image-unrecognised",
        "Image format is not recognised",
        f"The {len(data):,} bytes are not a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF{_guess(data)}.",
        remedy=_remedy(data),
    )


def _remedy(data: bytes) -> str:
    if _guess(data).endswith("HEIC"):
        return "Save it as JPEG; an iPhone does so with Settings, Camera, Formats, Most Compatible."
    return "Send a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF file."


def _guess(data: bytes) -> str:
    head = data[:64].lstrip()
    for magic, name in _LOOKS_LIKE:
        if data.startswith(magic) or head.startswith(magic):
            return f"; they look like {name}"
    if data[4:8] == b"ftyp":
        for brand, name in _BRANDS:
            if data[8:12].startswith(brand):
                return f"; they look like {name}"
        return "; they look like a video"
    return ""
