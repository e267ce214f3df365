"""What is written in a layout, in any of its variants, is what is read; what is damaged is told and never silent."""

from __future__ import annotations

import io
import json
import time
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from services.datasets.archive import ArchiveLimits
from services.datasets.formats import masks
from services.datasets.importing import Imported, import_archive
from services.datasets.listing import Listing
from services.datasets.package import Package
from services.errors import Problem
from services.media.image import read_picture
from services.media.intake import Limits
from tests.support.dataset_layouts import CLASSIFIED, DETECTED, Entries, H, Truth, W, Writer, picture, write_coco

IMAGES = Limits(max_bytes=1 << 20, max_pixels=1_000_000, max_aspect=50, max_frames=10)
SPLITS = ("train", "val", "test")
WORDS = ("cat", "Golden Retriever", "crane", "Käfer", "images", "train", "42", "traffic light")


def take(tmp_path: Path, entries: dict[str, bytes | str], **options: Any) -> tuple[Imported, Truth]:
    """Import a zip of ``entries``; what was read, as a :class:`Truth`."""
    upload, package = tmp_path / "upload.zip", tmp_path / "package.zip"
    with zipfile.ZipFile(upload, "w") as bundle:
        for name, data in entries.items():
            bundle.writestr(name, data)
    imported = import_archive(upload, "set", package, IMAGES, ArchiveLimits(), **options)
    found = Truth()
    with Package(package) as opened:
        for stored in opened.samples:
            sample = stored.sample
            boxes = tuple((opened.classes[box.label], tuple(round(v, 1) for v in box.xyxy)) for box in sample.boxes)
            labels = tuple(sorted(opened.classes[label] for label in sample.labels))
            found.rows[Path(sample.path).name] = (sample.split, labels, tuple(sorted(boxes)))
    account = imported.account
    assert account is not None
    for tally in (account.files, account.annotations):
        assert tally.seen == tally.read + sum(group.count for group in tally.left_out.values())
    assert account.files.seen == sum(_files_of(name, data) for name, data in entries.items())
    return imported, found


def _files_of(name: str, data: bytes | str) -> int:
    """How many files an entry is: those of a zip inside count instead of it."""
    if not name.endswith(".zip") or isinstance(data, str):
        return 1
    with zipfile.ZipFile(io.BytesIO(data)) as bundle:
        return len(bundle.namelist())


# Generators of data sets


@st.composite
def classified(draw: st.DrawFn) -> Truth:
    """Every class in every split, so that no class is lost by chance."""
    names = draw(st.lists(st.sampled_from([word for word in WORDS if word not in ("images", "train")]),
                          min_size=2, max_size=4, unique=True))  # fmt: skip
    splits = draw(st.sampled_from([("train",), ("train", "test"), SPLITS]))
    truth, number = Truth(), 0
    for split in splits:
        for name in names:
            for _ in range(draw(st.integers(1, 2))):
                truth.rows[f"p{number}.jpg"] = (split, (name,), ())
                number += 1
    return truth


@st.composite
def detected(draw: st.DrawFn) -> Truth:
    names = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4, unique=True))
    splits = draw(st.sampled_from([("train",), ("train", "val"), SPLITS]))
    truth, number = Truth(), 0
    for split in splits:
        for _ in range(draw(st.integers(1, 3))):
            boxes = []
            for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=3)):
                x, y = draw(st.integers(0, W - 8)), draw(st.integers(0, H - 8))
                w, h = draw(st.integers(2, W - x)), draw(st.integers(2, H - y))
                boxes.append((name, (float(x), float(y), float(x + w), float(y + h))))
            labels = tuple(sorted({name for name, _ in boxes}))
            truth.rows[f"p{number}.jpg"] = (split, labels, tuple(sorted(boxes)))
            number += 1
    return truth


QUICK = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize(("layout", "write", "variant"), CLASSIFIED)
@QUICK
@given(truth=classified())
def test_what_is_written_as_classes_is_read(
    tmp_path: Path, layout: str, write: Writer, variant: str, truth: Truth
) -> None:
    imported, found = take(tmp_path, write(truth, variant))
    assert (imported.format, imported.task) == (layout, "classification")
    assert found == truth


@pytest.mark.parametrize(("layout", "write", "variant"), DETECTED)
@QUICK
@given(truth=detected())
def test_what_is_written_as_boxes_is_read(
    tmp_path: Path, layout: str, write: Writer, variant: str, truth: Truth
) -> None:
    imported, found = take(tmp_path, write(truth, variant))
    assert (imported.format, imported.task) == (layout, "detection")
    assert found == truth


@pytest.mark.parametrize(("layout", "write", "variant"), [*CLASSIFIED, *DETECTED])
@QUICK
@given(data=st.data())
def test_a_lost_file_is_told_or_refused(
    tmp_path: Path, layout: str, write: Writer, variant: str, data: st.DataObject
) -> None:
    truth = data.draw(detected() if (layout, write, variant) in DETECTED else classified())
    entries = write(truth, variant)
    lost = sorted(name for name in entries if name.endswith(".jpg"))
    if not lost:  # in zips of their own
        return
    gone = data.draw(st.sampled_from(lost))
    del entries[gone]
    expected = Truth({name: row for name, row in truth.rows.items() if name != Path(gone).name})
    try:
        imported, found = take(tmp_path, entries)
    except Problem as problem:
        assert problem.code in ("dataset-losses", "dataset-empty", "dataset-layout-unknown")
        return
    assert found == expected
    # Class folders say nothing of a picture that is not there; every other layout names it.
    assert layout == "folders" or imported.flaws or layout == "yolo"


@QUICK
@given(truth=detected(), data=st.data())
def test_a_swapped_category_is_never_silent(tmp_path: Path, truth: Truth, data: st.DataObject) -> None:
    entries = write_coco(truth, "whole")
    document = json.loads(str(entries["result.json"]))
    note = data.draw(st.sampled_from(document["annotations"]))
    note["category_id"] = 999
    entries["result.json"] = json.dumps(document)
    try:
        imported, _ = take(tmp_path, entries)
    except Problem as problem:
        assert problem.code == "dataset-losses" and "category" in str(problem.extra["problems"])
        return
    assert any("unknown category 999" in flaw.message for flaw in imported.flaws)


# The cases that users reported


def test_a_class_whose_pictures_cannot_be_decoded_is_a_refusal_that_names_it(tmp_path: Path) -> None:
    entries: Entries = {f"train/cat/{n}.jpg": picture(n) for n in range(12)}
    entries |= {f"train/dog/{n}.jfif": picture(n + 20) for n in range(2)}
    entries |= {"train/bird/0.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)}
    with pytest.raises(Problem) as caught:
        take(tmp_path, entries)
    assert caught.value.code == "dataset-losses" and "class 'bird'" in caught.value.detail
    imported, found = take(tmp_path, entries, allow_losses=True)
    assert found.names() == ["cat", "dog"]
    assert imported.account is not None
    assert [reason for reason in imported.account.files.left_out if "HEIC" in reason]


def test_pictures_of_all_suffixes_that_are_decoded_are_read(tmp_path: Path) -> None:
    """`.jfif` is JPEG, TIFF and AVIF are decoded: none of their classes vanishes."""
    entries: Entries = {f"train/cat/{n}.jpg": picture(n) for n in range(2)}
    entries |= {f"train/dog/{n}.jfif": picture(n + 5) for n in range(2)}
    entries |= {f"train/bird/{n}.tif": picture(n + 9, "TIFF") for n in range(2)}
    entries |= {f"train/fish/{n}.AVIF": picture(n + 12, "AVIF") for n in range(2)}
    imported, found = take(tmp_path, entries)
    assert found.names() == ["bird", "cat", "dog", "fish"] and not imported.flaws
    assert imported.account is not None and imported.account.files.read == 8


def test_a_crowd_is_marked_and_is_no_object(tmp_path: Path) -> None:
    document = {
        "images": [{"id": 0, "file_name": "0.jpg", "width": W, "height": H}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": 0, "image_id": 0, "category_id": 1, "bbox": [1, 2, 10, 12]},
            {"id": 1, "image_id": 0, "category_id": 1, "bbox": [0, 0, 60, 40], "iscrowd": 1,
             "segmentation": {"counts": [0, 9], "size": [H, W]}},
        ],
    }  # fmt: skip
    imported, _ = take(tmp_path, {"0.jpg": picture(1), "a.json": json.dumps(document)})
    assert imported.counts.classes == {"cat": 1}
    with Package(tmp_path / "package.zip") as package:
        assert [box.ignore for box in package.samples[0].sample.boxes] == [False, True]


def turned(orientation: int) -> bytes:
    """A JPEG whose stored pixels have a red rectangle at (8, 4) to (24, 20), and EXIF's ``orientation``."""
    stored = Image.new("RGB", (W, H), (0, 0, 0))
    stored.paste((255, 0, 0), (8, 4, 24, 20))
    exif = Image.Exif()
    exif[0x0112] = orientation
    sink = io.BytesIO()
    stored.save(sink, "JPEG", quality=95, exif=exif)
    return sink.getvalue()


def boxed(box: tuple[int, ...], size: tuple[int, int]) -> str:
    x0, y0, x1, y1 = box
    return json.dumps(
        {
            "images": [{"id": 0, "file_name": "0.jpg", "width": size[0], "height": size[1]}],
            "categories": [{"id": 1, "name": "red"}],
            "annotations": [{"image_id": 0, "category_id": 1, "bbox": [x0, y0, x1 - x0, y1 - y0]}],
        }
    )


def red_box(data: bytes) -> tuple[int, ...]:
    """The box around what is red in the image as it is displayed."""
    shown = read_picture(data, IMAGES).image
    found = shown.getchannel("R").point(lambda value: 255 * (value > 128)).getbbox()
    assert found is not None
    return found


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_of_the_displayed_image_stay(tmp_path: Path, orientation: int) -> None:
    data = turned(orientation)
    size = (W, H) if orientation < 5 else (H, W)
    take(tmp_path, {"0.jpg": data, "a.json": boxed(red_box(data), size)})
    with Package(tmp_path / "package.zip") as package:
        assert package.samples[0].sample.boxes[0].xyxy == red_box(data)


@pytest.mark.parametrize("orientation", range(5, 9))
def test_boxes_of_the_stored_image_are_turned_with_it(tmp_path: Path, orientation: int) -> None:
    data = turned(orientation)
    take(tmp_path, {"0.jpg": data, "a.json": boxed((8, 4, 24, 20), (W, H))})
    with Package(tmp_path / "package.zip") as package:
        assert package.samples[0].sample.boxes[0].xyxy == pytest.approx(red_box(data), abs=1)


def test_swapped_sides_are_noticed(tmp_path: Path) -> None:
    document = {
        "images": [{"id": 0, "file_name": "0.jpg", "width": H, "height": W}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"image_id": 0, "category_id": 1, "bbox": [1, 1, 5, 5]}],
    }
    with pytest.raises(Problem) as caught:
        take(tmp_path, {"0.jpg": picture(1), "a.json": json.dumps(document)})
    assert "48 x 64" in caught.value.detail and "64 x 48" in caught.value.detail


def test_masks_are_refused_by_name(tmp_path: Path) -> None:
    entries: Entries = {f"images/{n}.jpg": picture(n) for n in range(3)}
    entries |= {f"masks/{n}.png": picture(n, "PNG") for n in range(3)}
    with pytest.raises(Problem) as caught:
        take(tmp_path, entries)
    assert caught.value.code == "dataset-masks" and "mask" in caught.value.title.lower()


def test_a_layout_can_be_asked_for(tmp_path: Path) -> None:
    entries: Entries = {f"train/{label}/{label}{n}.jpg": picture(n) for label in "ab" for n in range(2)}
    rows = [f"train/{label}/{label}{n}.jpg,{label}{n}" for label in "ab" for n in range(2)]
    entries["labels.csv"] = "\n".join(["image,label", *rows])
    imported, found = take(tmp_path, entries)
    assert imported.format == "table" and imported.layout is not None and imported.layout.runner_up == "folders"
    imported, found = take(tmp_path, entries, layout="folders")
    assert found.names() == ["a", "b"]
    with pytest.raises(Problem) as caught:
        take(tmp_path, entries, layout="cocoa")
    assert caught.value.pointer == "/layout" and "coco" in (caught.value.remedy or "")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_in_another_unicode_form_are_found(tmp_path: Path, form: str) -> None:
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    name = unicodedata.normalize(form, "Käfer 1.jpg")
    table = "image,label\n" + unicodedata.normalize(other, "Käfer 1.jpg") + ",beetle\nmy%20img.jpg,other\n"
    _, found = take(tmp_path, {name: picture(1), "my img.jpg": picture(2), "labels.csv": table})
    assert len(found.rows) == 2


@pytest.mark.parametrize("encoding", ["utf-8", "cp437"])
def test_entry_names_of_zips_without_the_utf8_flag(tmp_path: Path, encoding: str) -> None:
    class Entry(zipfile.ZipInfo):
        def _encodeFilenameFlags(self) -> tuple[bytes, int]:
            return self.filename.encode(encoding), self.flag_bits & ~0x800

    upload = tmp_path / "upload.zip"
    with zipfile.ZipFile(upload, "w") as bundle:
        for label in ("Käfer", "Vögel"):
            bundle.writestr(Entry(f"{label}/1.jpg"), picture(len(label)))
    imported = import_archive(upload, "set", tmp_path / "package.zip", IMAGES, ArchiveLimits())
    assert imported.classes == ["Käfer", "Vögel"]


def test_many_files_of_one_name_cost_no_square(tmp_path: Path) -> None:
    """Each of 3,000 folders has an ``x.jpg``; a table names them by paths of another machine."""

    names = [f"set/{n:05d}/x.jpg" for n in range(3000)]
    listing = Listing(tmp_path, names)
    assert all(listing.find(f"/home/me/set/{n:05d}/x.jpg") == name for n, name in enumerate(names))
    assert listing.find("x.jpg") is None


def test_names_of_a_hostile_yaml_cost_nothing(tmp_path: Path) -> None:
    """References to references: eleven short lines would be ten thousand million words if they were written out."""
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 11))]
    entries: Entries = {"images/0.jpg": picture(0), "labels/0.txt": "0 0.5 0.5 0.2 0.2\n"}
    entries["data.yaml"] = "\n".join([*lines, "names: [*a10]"])
    entries["when.yml"] = "day: 2001-99-99\n"
    imported, _ = take(tmp_path, entries, allow_losses=True)
    assert imported.classes == ["class 0"]


def test_many_masks_cost_no_square(tmp_path: Path) -> None:
    names = [f"{folder}/{number}.png" for folder in ("images", "masks") for number in range(20_000)]
    begin = time.thread_time()
    assert masks.fit(Listing(tmp_path, names)) is not None
    assert time.thread_time() - begin < 5
