"""What a container says about its image, and the problems that all formats share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from services.errors import Kind, Problem

Format = Literal["JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "AVIF"]


@dataclass(frozen=True, slots=True)
class Container:
    """``width`` and ``height`` in pixels as stored, ``size`` of the whole file in bytes.

    ``pixels`` is all that the decoder needs to see: comments, colour profiles, previews and later frames are left
    out, so it cannot be made to work on them. ``exif`` is the raw TIFF block or empty. ``ended`` says that the end of
    the file was seen.
    """

    format: Format
    width: int
    height: int
    size: int
    pixels: bytes
    exif: bytes = b""
    ended: bool = True


def truncated(form: Format, detail: str) -> Problem:
    return Problem(Kind.INVALID, "image-truncated", "Image is truncated", detail, remedy="Send the whole file.")


def truncated_at(form: Format, has: int, needs: int, *, about: bool = False) -> Problem:
    """``has`` bytes are there, ``needs`` should be; ``about`` when that number is an estimate or a lower bound."""
    return truncated(form, f"{form} ends after {has:,} of {'about ' if about else ''}{needs:,} bytes.")


def corrupt(form: Format, detail: str) -> Problem:
    return Problem(
        Kind.INVALID,
        "image-corrupt",
        "Image is corrupt",
        f"{form}: {detail}",
        remedy="Open and save the image again with an image program.",
    )


def unsupported(form: Format, detail: str) -> Problem:
    return Problem(
        Kind.INVALID,
        "image-unsupported",
        "Image uses an unsupported variant of its format",
        f"{form}: {detail}",
        remedy="Save the image as a baseline JPEG or as PNG.",
    )
