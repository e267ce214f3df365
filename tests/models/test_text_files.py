"""Text files of any editor are the same text; what is none is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.catalog.labels import LabelError, read_labels
from models.text_files import UnreadableText, decode_text, text_lines


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_is_read_by_its_mark(encoding: str) -> None:
    assert decode_text("kočka, 猫\r\n".encode(encoding)) == "kočka, 猫\r\n"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\x1f\x8b\x08\0\0", "compressed by gzip; unpack it"),
        (b"PK\x03\x04", "a zip"),
        (b"caf\xe9", "byte 3 is not UTF-8"),
        ("ab".encode("utf-16-le"), "without a byte order mark"),
        ("ab".encode("utf-16-be"), "without a byte order mark"),
        (b"\xff\xfea", "is not UTF-16"),
    ],
)
def test_what_is_no_text_is_named(data: bytes, what: str) -> None:
    with pytest.raises(UnreadableText, match=what):
        decode_text(data)


def test_only_line_ends_end_a_line() -> None:
    assert text_lines("a\r\nb\rc\x0bd\x85e\u2028f\n\n") == ["a", "b", "c\x0bd\x85e\u2028f", ""]
    assert text_lines("") == []


def test_labels_of_a_model_are_read_in_any_encoding(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes("a cat\r\na dog\r\n".encode("utf-16"))
    assert read_labels(tmp_path / "labels.txt") == ("a cat", "a dog")
    (tmp_path / "labels.txt").write_bytes(b"\x1f\x8b\x08\0")
    with pytest.raises(LabelError, match="gzip"):
        read_labels(tmp_path / "labels.txt")
