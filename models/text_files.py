"""Text files as other programs save them: with a byte order mark or without, in UTF-8, UTF-16 or UTF-32."""

from __future__ import annotations

import codecs

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

NO_TEXT = (
    (b"\x1f\x8b", "compressed by gzip"),
    (b"PK\x03\x04", "a zip"),
    (b"BZh", "compressed by bzip2"),
    (b"\xfd7zX", "compressed by xz"),
    (b"(\xb5/\xfd", "compressed by zstd"),
)
"""How files begin that are no text until they are unpacked."""


class UnreadableText(ValueError):
    """Bytes are no text in a known encoding; the message says what they are, and what to do."""


def decode_text(data: bytes) -> str:
    """Text by its byte order mark, UTF-8 without one. Raises :class:`UnreadableText`.

    >>> decode_text("caf\\u00e9".encode("utf-16"))
    'caf\\u00e9'
    """
    packed = next((what for mark, what in NO_TEXT if data.startswith(mark)), None)
    if packed is not None:
        raise UnreadableText(f"it is {packed}; unpack it first")

    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in data[:4]:
        raise UnreadableText("it looks like UTF-16 or UTF-32 without a byte order mark; save it as UTF-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        raise UnreadableText(f"byte {error.start:,} is not {name}; save it as UTF-8") from None


def text_lines(text: str) -> list[str]:
    """The lines of a file, without their ends: only those that editors make, CR and LF, end a line.

    >>> text_lines("a cat\\r\\na\\u2028dog\\n")
    ['a cat', 'a\\u2028dog']
    """
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n") if text else []
