"""What one image may cost, and base64 to bytes."""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass

from services.errors import Kind, Problem
from services.settings import Settings

_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=]")
_WHITESPACE = str.maketrans("", "", " \t\r\n")
_LONGEST_MEDIA_TYPE = 256


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one image, all checked before anything is decoded.

    ``max_bytes`` of the encoded file, ``max_pixels`` width times height, ``max_aspect`` longer over shorter side,
    ``max_frames`` of an animation, of which only the first frame is used.
    """

    max_bytes: int
    max_pixels: int
    max_aspect: float
    max_frames: int

    @staticmethod
    def of(settings: Settings) -> Limits:
        return Limits(
            max_bytes=settings.max_image_bytes,
            max_pixels=settings.max_image_pixels,
            max_aspect=settings.max_image_aspect,
            max_frames=settings.max_image_frames,
        )

    def check_bytes(self, count: int) -> None:
        """Raises ``image-empty`` or ``image-too-large``; ``count`` is the size of the encoded file."""
        if count == 0:
            raise Problem(Kind.INVALID, "image-empty", "Image is empty", "The image has no bytes.")
        if count > self.max_bytes:
            raise Problem(
                Kind.TOO_LARGE,
                "image-too-large",
                "Image file is too large",
                f"The image has {count:,} bytes; at most {self.max_bytes:,} are accepted.",
                remedy="Compress or scale the image down before sending it.",
            )

    def check_size(self, form: str, width: int, height: int) -> None:
        """Raises ``image-no-pixels``, ``image-too-many-pixels`` or ``image-aspect``; sides in pixels."""
        if width < 1 or height < 1:
            raise Problem(
                Kind.INVALID,
                "image-no-pixels",
                "Image has no pixels",
                f"The {form} header says {width} x {height} pixels.",
            )

        if width * height > self.max_pixels:
            raise Problem(
                Kind.INVALID,
                "image-too-many-pixels",
                "Image has too many pixels",
                f"{form} of {width:,} x {height:,} pixels; at most {self.max_pixels:,} pixels are accepted.",
                remedy="Scale the image down before sending it.",
            )

        if max(width, height) > self.max_aspect * min(width, height):
            raise Problem(
                Kind.INVALID,
                "image-aspect",
                "Image is too narrow",
                f"{form} of {width:,} x {height:,} pixels; the longer side may be at most {self.max_aspect:g} "
                "times the shorter.",
                remedy="Crop the image before sending it.",
            )

    def check_frames(self, form: str, frames: int) -> None:
        """Raises ``image-too-many-frames``; ``frames`` may be a lower bound."""
        if frames > self.max_frames:
            raise Problem(
                Kind.INVALID,
                "image-too-many-frames",
                "Animation has too many frames",
                f"The {form} has more than {self.max_frames:,} frames; only the first is used.",
                remedy="Send a single frame.",
            )


def decode_base64(text: str, limits: Limits) -> bytes:
    """The bytes of a ``data:...;base64,`` URI or of plain base64; line breaks and blanks are allowed.

    Raises ``image-not-base64``, ``image-empty``, ``image-too-large`` (from the length, before decoding).
    """
    start = _payload_start(text)
    # Before the payload is copied or decoded: its length bounds the decoded size from above. Line breaks only ever
    # make that bound looser, so a file that seems too large is looked at again without them.
    if (len(text) - start) // 4 * 3 > limits.max_bytes + 2:
        text, start = text[start:].translate(_WHITESPACE), 0
        limits.check_bytes(len(text) // 4 * 3 - text[-2:].count("="))

    payload = text[start:] if start else text
    try:
        data = binascii.a2b_base64(payload, strict_mode=True)
    except ValueError:  # binascii.Error, or a character outside ASCII
        unwrapped = payload.translate(_WHITESPACE)
        if _plus_lost(payload, unwrapped):
            raise _spaces(payload) from None
        try:
            data = binascii.a2b_base64(unwrapped, strict_mode=True)
        except ValueError as error:
            raise _not_base64(unwrapped, error) from None

    limits.check_bytes(len(data))
    return data


def _payload_start(text: str) -> int:
    if text[:5].lower() != "data:":
        return 0
    comma = text.find(",", 0, _LONGEST_MEDIA_TYPE)
    if comma < 0 or not text[:comma].rstrip().lower().endswith(";base64"):
        raise Problem(
            Kind.INVALID,
            "image-not-base64",
            "Image is not base64",
            "The data URI does not begin with data:<type>;base64, .",
            remedy="Send data:image/jpeg;base64,... or the plain base64 text.",
        )
    return comma + 1


def _plus_lost(payload: str, unwrapped: str) -> bool:
    """Return whether the blanks of ``payload`` were plus signs: with them it is whole, and it is not wrapped."""
    pieces = payload.strip().split(" ")
    if len(pieces) == 1 or any(character in payload.strip() for character in "\r\n\t"):
        return False
    if len(payload.strip()) % 4:
        return False
    return len(unwrapped) % 4 != 0 or len({len(piece) for piece in pieces[:-1]}) > 1


def _spaces(payload: str) -> Problem:
    count = payload.strip().count(" ")
    return Problem(
        Kind.INVALID,
        "image-not-base64",
        "Image is not base64",
        f"The base64 text holds {count:,} {'blank' if count == 1 else 'blanks'} where plus signs were: "
        "form fields and query strings turn + into a blank.",
        remedy="Send %2B for each + there, or send the image in a JSON body or as a file.",
    )


def _not_base64(payload: str, error: ValueError) -> Problem:
    wrong = _NOT_BASE64.search(payload)
    if wrong:
        detail = f"Character {wrong.group()!r} at position {wrong.start():,} does not belong to base64."
    else:
        detail = f"The base64 text of {len(payload):,} characters is not complete: {error}."
    remedy = "Send the file as standard base64 with its padding, or as a data URI."
    if wrong and wrong.group() in "-_":
        remedy = "Use the standard alphabet (+ and /), not the URL-safe one (- and _)."
    return Problem(Kind.INVALID, "image-not-base64", "Image is not base64", detail, remedy=remedy)
