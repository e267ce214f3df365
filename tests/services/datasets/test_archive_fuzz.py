"""Damaged and lying archives are read whole or refused with a reason: in bounded time, and nothing is lost unsaid."""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from services.datasets.archive import ArchiveLimits
from services.datasets.importing import Imported, import_archive
from services.datasets.package import Package
from services.errors import Kind, Problem
from services.media.intake import Limits

IMAGES = Limits(max_bytes=1 << 20, max_pixels=100_000, max_aspect=50, max_frames=10)
LIMITS = ArchiveLimits(max_entries=200, max_entry_bytes=1 << 20, max_total_bytes=4 << 20)
MOST_SECONDS = 10.0
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
"""More of them are other ones: ``FUZZ_EXAMPLES=5000 pytest ...`` looks for what these do not find."""
LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"


def picture(number: int) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (12, 9), (number * 37 % 256, number * 91 % 256, 90)).save(sink, "PNG")
    return sink.getvalue()


FILES = {f"train/{label}/{n}.png": picture(n + 10 * k) for k, label in enumerate(("cat", "Käfer")) for n in range(2)}


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, *, zip64: bool = False) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as bundle:
        for name, data in files.items():
            with bundle.open(zipfile.ZipInfo(name), "w", force_zip64=zip64) as entry:
                entry.write(data)
    return sink.getvalue()


def tarred(files: dict[str, bytes], mode: str, form: int = tarfile.PAX_FORMAT) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode, format=form) as bundle:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            bundle.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def listed() -> dict[str, bytes]:
    """A set of ELEVATER's: its images in a zip of their own."""
    inner = zipped({f"{n}.png": picture(n) for n in range(3)}, zipfile.ZIP_STORED)
    lines = "".join(f"train.zip@{n}.png {n % 2}\n" for n in range(3))
    return {"train.zip": inner, "train.txt": lines.encode(), "labels.txt": b"cat\ndog\n"}


def noted() -> dict[str, bytes]:
    images = [{"id": n, "file_name": f"{n}.png", "width": 12, "height": 9} for n in range(3)]
    notes = [{"image_id": n, "category_id": 1, "bbox": [1, 1, 5, 5]} for n in range(3)]
    document = {"images": images, "annotations": notes, "categories": [{"id": 1, "name": "cat"}]}
    return {**{f"{n}.png": picture(n) for n in range(3)}, "a.json": json.dumps(document).encode()}


def wide(size: int, packed: int, offset: int) -> bytes:
    """A zip whose directory says the sizes and the place of its entry in a field of zip64."""

    entry = zipfile.ZipInfo("train/cat/0.png")
    entry.extra = struct.pack("<HHQQQ", 1, 24, size, packed, offset)
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as bundle:
        bundle.writestr(entry, picture(0))
    data = bytearray(sink.getvalue())
    at = data.index(CENTRAL)
    struct.pack_into("<LL", data, at + 20, 0xFFFFFFFF, 0xFFFFFFFF)
    struct.pack_into("<L", data, at + 42, 0xFFFFFFFF)
    return bytes(data)


SEEDS = (
    zipped(FILES),
    zipped(FILES, zipfile.ZIP_STORED),
    zipped(FILES, zipfile.ZIP_STORED, zip64=True),
    zipped(listed()),
    zipped(noted(), zipfile.ZIP_STORED),
    tarred(FILES, "w"),
    tarred(noted(), "w:gz"),
    tarred(FILES, "w:bz2", tarfile.GNU_FORMAT),
)


def take(folder: Path, data: bytes, *, allow_losses: bool = False) -> Imported | Problem:
    """What comes of an upload: read with an account of every file, or a problem that is nobody's bug, in time."""
    (folder / "upload").write_bytes(data)
    into = folder / "package.zip"
    begin = time.thread_time()
    found: Imported | Problem
    try:
        found = imported = import_archive(folder / "upload", "set", into, IMAGES, LIMITS, allow_losses=allow_losses)
    except Problem as problem:
        assert problem.kind is not Kind.INTERNAL and problem.title and problem.detail
        assert sorted(path.name for path in folder.iterdir()) == ["upload"]
        found = problem
    else:
        account = imported.account
        assert account is not None
        for tally in (account.files, account.annotations):
            assert tally.read >= 0
            assert tally.seen == tally.read + sum(group.count for group in tally.left_out.values())
        if zipfile.is_zipfile(io.BytesIO(data)):
            with zipfile.ZipFile(io.BytesIO(data)) as bundle:
                own = [one for one in bundle.infolist() if not one.is_dir() and not one.filename.endswith(".zip")]
            assert account.files.seen >= len(own)
        with Package(into) as package:
            assert sum(imported.counts.splits.values()) == len(package.samples)
            for stored in package.samples:
                assert Image.open(io.BytesIO(package.read(stored))).size == (stored.width, stored.height)
        into.unlink()
    assert time.thread_time() - begin < MOST_SECONDS
    return found


FUZZ = settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES == 150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@FUZZ
@given(
    seed=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=6)), max_size=6),
    cut=st.integers(0, 400),
)
def test_mutated_archives_are_read_or_refused(
    tmp_path: Path, seed: bytes, edits: list[tuple[float, bytes]], cut: int
) -> None:
    data = bytearray(seed)
    for where, patch in edits:
        at = int(where * len(data))
        data[at : at + len(patch)] = patch
    take(tmp_path, bytes(data[: len(data) - cut]) if cut % 3 == 0 else bytes(data))


FIELDS = {
    LOCAL: (("flags", 6, "<H"), ("method", 8, "<H"), ("crc", 14, "<L"), ("packed", 18, "<L"), ("size", 22, "<L"),
            ("name", 26, "<H"), ("extra", 28, "<H")),
    CENTRAL: (("flags", 8, "<H"), ("method", 10, "<H"), ("crc", 16, "<L"), ("packed", 20, "<L"), ("size", 24, "<L"),
              ("name", 28, "<H"), ("extra", 30, "<H"), ("comment", 32, "<H"), ("mode", 38, "<L"), ("offset", 42, "<L")),
    END: (("here", 8, "<H"), ("all", 10, "<H"), ("bytes", 12, "<L"), ("offset", 16, "<L"), ("comment", 20, "<H")),
}  # fmt: skip
"""Where a header says what: the field, its place and its form (APPNOTE 6.3.10, sections 4.3.7, 4.3.12 and 4.3.16)."""


@FUZZ
@given(data=st.data(), seed=st.sampled_from([one for one in SEEDS if one.startswith(LOCAL)]))
def test_a_header_that_lies_is_read_or_refused(tmp_path: Path, data: st.DataObject, seed: bytes) -> None:
    bent = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 3))):
        kind = data.draw(st.sampled_from(list(FIELDS)))
        places = [at for at in range(len(seed)) if seed.startswith(kind, at)]
        at = data.draw(st.sampled_from(places))
        _, offset, form = data.draw(st.sampled_from(FIELDS[kind]))
        most = 0xFFFF if form == "<H" else 0xFFFFFFFF
        value = data.draw(st.sampled_from([0, 1, 8, 12, 14, 99, most, most - 1]) | st.integers(0, most))
        struct.pack_into(form, bent, at + offset, value)
    take(tmp_path, bytes(bent))


@settings(FUZZ, max_examples=EXAMPLES // 2)
@given(
    text=st.binary(min_size=1, max_size=300), name=st.sampled_from(["a.json", "train.txt", "labels.txt", "labels.csv"])
)
@example(text=b"[" * 300, name="a.json")
@example(text=b"\x00" * 300, name="labels.csv")
@example(text=b'{"images": [{}], "annotations": 7, "categories": {}}', name="a.json")
@example(text=b'{"images": [null, 1, "x"], "annotations": [null, []], "categories": [[], null]}', name="a.json")
def test_text_of_any_bytes_is_read_or_refused(tmp_path: Path, text: bytes, name: str) -> None:
    for files in (FILES, listed(), noted()):
        take(tmp_path, zipped({**files, name: text}))


@settings(FUZZ, max_examples=EXAMPLES // 3)
@given(size=st.integers(0, 2**64 - 1), packed=st.integers(0, 2**64 - 1), offset=st.integers(0, 2**64 - 1))
@example(size=len(picture(0)), packed=len(picture(0)), offset=0)
@example(size=2**64 - 1, packed=2**64 - 1, offset=2**64 - 1)
@example(size=len(picture(0)), packed=len(picture(0)), offset=2**63)
@example(size=0, packed=2**63, offset=0)
def test_sizes_of_zip64_that_lie_are_read_or_refused(tmp_path: Path, size: int, packed: int, offset: int) -> None:
    found = take(tmp_path, wide(size, packed, offset))
    assert isinstance(found, Imported) == ((size, packed, offset) == (len(picture(0)), len(picture(0)), 0))


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    data = zipped({"a/1.png": picture(1), "a/2.png": picture(2)}).replace(b"a/2.png", b"a/1.png")
    found = take(tmp_path, data)
    assert isinstance(found, Problem) and found.code == "archive-duplicate-name" and "'a/1.png'" in found.detail


def test_a_count_that_lies_changes_nothing(tmp_path: Path) -> None:
    for count in (0, 1, 0xFFFE):
        data = bytearray(zipped(FILES))
        at = data.rindex(END)
        struct.pack_into("<HH", data, at + 8, count, count)
        found = take(tmp_path, bytes(data))
        assert isinstance(found, Imported) and found.counts.splits == {"train": len(FILES)}


def test_entries_that_overlap_are_bounded_by_what_comes_out(tmp_path: Path) -> None:
    """Many entries of the directory that share one compressed body: nothing else of the zip is large."""
    one = zipped({"a/0000.bin": bytes(900_000)})
    at = one.index(CENTRAL)
    end = one.rindex(END)
    entry, many = one[at:end], 60
    directory = b"".join(entry.replace(b"a/0000.bin", b"a/0000.bin") for _ in range(many))
    tail = bytearray(one[end:])
    struct.pack_into("<HHL", tail, 8, many, many, len(directory))
    found = take(tmp_path, one[:at] + directory + bytes(tail))
    assert isinstance(found, Problem) and found.code in (
        "archive-duplicate-name",
        "archive-too-large",
        "archive-corrupt",
    )


def test_more_entries_than_allowed_are_refused_before_they_are_listed(tmp_path: Path) -> None:
    begin = time.thread_time()
    found = take(tmp_path, zipped({f"{n}": b"" for n in range(2000)}, zipfile.ZIP_STORED))
    assert isinstance(found, Problem) and found.code == "archive-too-many-files"
    assert time.thread_time() - begin < MOST_SECONDS


def test_a_zip_in_a_zip_in_a_zip_is_told(tmp_path: Path) -> None:
    innermost = zipped({"c/1.png": picture(1)})
    found = take(tmp_path, zipped({**FILES, "more.zip": zipped({"deep.zip": innermost, "x.png": picture(3)})}),
                 allow_losses=True)  # fmt: skip
    assert isinstance(found, Imported) and found.account is not None
    said = {example for group in found.account.files.left_out.values() for example in group.examples}
    assert "more.zip/deep.zip" in said


def test_names_in_an_unknown_encoding_are_said(tmp_path: Path) -> None:
    class Entry(zipfile.ZipInfo):
        def _encodeFilenameFlags(self) -> tuple[bytes, int]:
            return self.filename.encode(encoding), self.flag_bits & ~0x800

    for encoding, labels, guessed in (
        ("gbk", ("甲虫", "鸟"), True),
        ("shift-jis", ("甲虫", "とり"), True),
        ("cp437", ("Käfer", "Vögel"), False),
        ("utf-8", ("甲虫", "鸟"), False),
    ):
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w") as bundle:
            for n, label in enumerate(labels):
                bundle.writestr(Entry(f"{label}/{n}.png"), picture(n))
        found = take(tmp_path, sink.getvalue())
        assert isinstance(found, Imported) and len(found.classes) == 2
        said = [flaw.message for flaw in found.flaws if "code page 437" in flaw.message]
        assert bool(said) == guessed, (encoding, found.classes)
        assert guessed or tuple(found.classes) == labels


@pytest.mark.parametrize("head", [b"#!/bin/sh\n", b"GIF89a" + bytes(200)])
def test_what_stands_before_a_zip_does_not_hide_it(tmp_path: Path, head: bytes) -> None:
    found = take(tmp_path, head + zipped(FILES))
    assert isinstance(found, Imported) and found.counts.splits == {"train": len(FILES)}
