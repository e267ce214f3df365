"""Label sets: one label a line, each once, in the order of the outputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.catalog.labels import FOLDER, LabelError, label_set, label_sets, read_labels


def test_imagenet_names_are_a_thousand_in_the_order_of_the_synsets() -> None:
    names = label_set("imagenet-1k")
    assert len(names) == 1000
    picked = {0: "tench", 285: "Egyptian Mau", 657: "missile", 744: "projectile", 836: "sunglass", 999: "toilet paper"}
    assert {index: names[index] for index in picked} == picked


def test_every_shipped_set_is_usable_and_attributed() -> None:
    attribution = (FOLDER / "ATTRIBUTION.md").read_text("utf-8")
    for name in label_sets():
        assert label_set(name) and f"`{name}.txt`" in attribution


@pytest.mark.parametrize("name", ["nothing", "../label_sets/imagenet-1k", "imagenet-1k.txt", "", "IMAGENET-1K"])
def test_name_outside_the_catalog_is_refused(name: str) -> None:
    with pytest.raises(LabelError, match="no label set") as refusal:
        label_set(name)
    assert "imagenet-1k" in refusal.value.remedy


def test_byte_order_mark_spaces_and_final_newlines_are_no_labels(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(b"\xef\xbb\xbf cat \r\ndog\r\n\r\n")
    assert read_labels(path) == ("cat", "dog")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "no labels"),
        (b"cat\n\ndog\n", "line 2 is empty"),
        (b"cat\ndog\ncat\n", "line 1 and on line 3"),
        (b"cat\n\xff\xfe\n", "not UTF-8"),
    ],
)
def test_unusable_file_is_told_with_its_line(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(LabelError, match=complaint):
        read_labels(path)
    with pytest.raises(LabelError, match="cannot be read"):
        read_labels(tmp_path / "absent.txt")
