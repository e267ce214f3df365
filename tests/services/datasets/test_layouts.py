"""What is written in a layout, in any of its variants, is what is read; what is damaged is told and never silent."""

from __future__ import annotations

import csv
import io
import json
import time
import unicodedata
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
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

IMAGES = Limits(max_bytes=1 << 20, max_pixels=1_000_000, max_aspect=50, max_frames=10)
SPLITS = ("train", "val", "test")
WORDS = ("cat", "Golden Retriever", "crane", "Käfer", "images", "train", "42", "traffic light")
W, H = 64, 48


def picture(number: int, form: str = "JPEG", size: tuple[int, int] = (W, H)) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", size, (number * 37 % 256, number * 91 % 256, 90)).save(sink, form)
    return sink.getvalue()


Row = tuple[str, tuple[str, ...], tuple[tuple[str, tuple[float, ...]], ...]]


@dataclass
class Truth:
    """A data set: the split, the labels, and the boxes (label, xyxy) of each image by its base name."""

    rows: dict[str, tuple[str, tuple[str, ...], tuple[tuple[str, tuple[float, ...]], ...]]] = field(
        default_factory=dict
    )

    def splits(self) -> list[str]:
        return sorted({split for split, _, _ in self.rows.values()})

    def names(self) -> list[str]:
        found = {label for _, labels, _ in self.rows.values() for label in labels}
        return sorted(found | {label for _, _, boxes in self.rows.values() for label, _ in boxes})


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
    assert account.files.seen == len(entries)
    return imported, found


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


Entries = dict[str, bytes | str]


def pictures(truth: Truth, place: Callable[[str, str], str]) -> Entries:
    return {place(split, name): picture(number) for number, (name, (split, _, _)) in enumerate(truth.rows.items())}


# Layouts, each with its variants


def write_folders(truth: Truth, variant: str) -> Entries:
    found: Entries = {}
    for number, (name, (split, (label,), _)) in enumerate(truth.rows.items()):
        folder = {"val": "valid"}.get(split, split) if variant == "valid" else split
        place = {
            "plain": f"{folder}/{label}/{name}",
            "nested": f"export/set/{folder}/{label}/{name}",
            "deeper": f"{folder}/{label}/more/{name}",
            "class first": f"{label}/{folder}/{name}",
            "valid": f"data/{folder.upper()}/{label}/{name}",
            "stray": f"{folder}/{label}/{name}",
        }[variant]
        found[place] = picture(number)
    if variant == "stray":
        found["export-metadata.json"] = '{"tool": "mine"}'
        found["stats.csv"] = "class,count\ncat,2\n"
        found[f"train/{truth.names()[0]}/p0.json"] = '{"shapes": [], "imagePath": "p0.jpg"}'
        found["README.md"] = "made by hand"
    return found


def write_coco(truth: Truth, variant: str) -> Entries:
    split_files = variant in ("roboflow", "renumbered", "named")
    found = pictures(truth, lambda split, name: f"{split}/{name}" if split_files else f"{split}/images/{name}")
    for order, split in enumerate(truth.splits() if split_files else ["all"]):
        names = truth.names()
        if variant == "renumbered" and order % 2:
            names = names[::-1]
        key: Callable[[int], Any] = {"text ids": lambda n: f"{n}", "float ids": float}.get(variant, lambda n: n)
        images, notes = [], []
        for number, (name, (own, _, boxes)) in enumerate(truth.rows.items()):
            if split_files and own != split:
                continue
            path = {
                "roboflow": name, "renumbered": name, "named": f"{own}/{name}",
                "backslash": f"{own}\\images\\{name}", "server": f"/data/local-files/?d={own}/images/{name}",
            }.get(variant, f"{own}/images/{name}")  # fmt: skip
            images.append(
                {"id": str(number) if variant == "text ids" else number, "file_name": path, "width": W, "height": H}
            )
            for label, (x0, y0, x1, y1) in boxes:
                note: dict[str, Any] = {
                    "id": len(notes),
                    "image_id": number,
                    "category_id": key(names.index(label) + 1),
                }
                if variant == "polygon":
                    note["segmentation"] = [[x0, y0, x1, y0, x1, y1, x0, y1]]
                else:
                    note["bbox"] = [x0, y0, x1 - x0, y1 - y0]
                notes.append(note)
        categories = [{"id": number + 1, "name": name} for number, name in enumerate(names)]
        text = json.dumps({"images": images, "annotations": notes, "categories": categories})
        place = {"roboflow": f"{split}/_annotations.coco.json", "renumbered": f"{split}/_annotations.coco.json",
                 "named": f"annotations/instances_{split}2017.json"}.get(variant, "result.json")  # fmt: skip
        found[place] = text
    return found


def write_yolo(truth: Truth, variant: str) -> Entries:
    place: Callable[[str, str], str] = {
        "roboflow": lambda split, name: f"{split}/images/{name}",
        "ultralytics": lambda split, name: f"images/{split}/{name}",
        "darknet": lambda split, name: f"obj_train_data/{name}",
        "polygon": lambda split, name: f"{split}/images/{name}",
    }[variant]
    found = pictures(truth, place)
    names = truth.names()
    for name, (split, _, boxes) in truth.rows.items():
        lines = []
        for label, (x0, y0, x1, y1) in boxes:
            if variant == "polygon":
                sides = (x0 / W, y0 / H, x1 / W, y0 / H, x1 / W, y1 / H, x0 / W, y1 / H)
            else:
                sides = ((x0 + x1) / 2 / W, (y0 + y1) / 2 / H, (x1 - x0) / W, (y1 - y0) / H)
            lines.append(f"{names.index(label)} {' '.join(f'{side:.6f}' for side in sides)}")
        labels = place(split, name).replace("images", "labels").replace(".jpg", ".txt")
        found[labels] = "\r\n".join(lines) + "\n"
    if variant == "darknet":
        found["obj.names"] = "\n".join(names) + "\n"
        found["obj.data"] = f"classes = {len(names)}\ntrain = train.txt\n"
        for split in truth.splits():
            own = [f"data/obj_train_data/{name}" for name, row in truth.rows.items() if row[0] == split]
            found[f"{split}.txt"] = "\n".join(own)
    else:
        listed = json.dumps(names) if variant == "roboflow" else json.dumps(dict(enumerate(names))).replace('"', "'")
        if variant != "roboflow":
            listed = "\n" + "".join(f"  {number}: {json.dumps(name)}\n" for number, name in enumerate(names))
        found["data.yaml"] = f"train: ../train/images\nnc: {len(names)}\nnames: {listed}\n"
    return found


def write_voc(truth: Truth, variant: str) -> Entries:
    beside = variant == "beside"
    found = pictures(truth, lambda split, name: f"{split}/{name}" if beside else f"VOC2007/JPEGImages/{name}")
    for name, (split, _, boxes) in truth.rows.items():
        objects = "".join(
            f"<object><name>{label}</name><difficult>0</difficult><bndbox><xmin>{x0 + 1:g}</xmin>"
            f"<ymin>{y0 + 1:g}</ymin><xmax>{x1:g}</xmax><ymax>{y1:g}</ymax></bndbox></object>"
            for label, (x0, y0, x1, y1) in boxes
        )
        text = (
            f"<annotation><folder>x</folder><filename>{name}</filename><size><width>{W}</width><height>{H}</height>"
            f"<depth>3</depth></size>{objects}</annotation>"
        )
        place = f"{split}/{name}" if beside else f"VOC2007/Annotations/{name}"
        found[place.replace(".jpg", ".xml")] = text
    for split in () if beside else truth.splits():
        stems = [Path(name).stem for name, row in truth.rows.items() if row[0] == split]
        found[f"VOC2007/ImageSets/Main/{split}.txt"] = "\n".join(stems) + "\n"
    return found


def write_table(truth: Truth, variant: str) -> Entries:
    per_split = variant in ("metadata", "named")
    found = pictures(
        truth, lambda split, name: f"{split}/{name}" if per_split or variant == "folders" else f"images/{name}"
    )
    tables: dict[str, list[dict[str, str]]] = {}
    for name, (split, (label,), _) in truth.rows.items():
        table, row = {
            "column": ("labels.csv", {"image": f"images/{name}", "label": label, "split": split}),
            "semicolons": ("labels.csv", {"File Name": f"images/{name}", "Class": label, "Split": split}),
            "tabs": ("LABELS.TSV", {"filename": name, "category": label, "set": split}),
            "upper": ("labels.CSV", {"IMAGE": f"images\\{name}", "LABEL": label, "SPLIT": split.upper()}),
            "named": (f"{split}.csv", {"image": f"{split}/{name}", "label": label}),
            "metadata": (f"{split}/metadata.csv", {"file_name": name, "label": label}),
            "folders": ("labels.csv", {"image": f"{split}/{name}", "label": label}),
            "utf-16": ("labels.csv", {"image": f"images/{name}", "label": label, "split": split}),
            "jsonl": ("data.jsonl", {"image": f"images/{name}".replace("p", "p"), "label": label, "split": split}),
        }[variant]
        tables.setdefault(table, []).append(row)
    for table, rows in tables.items():
        if variant == "jsonl":
            found[table] = b"\xef\xbb\xbf" + "\r\n\r\n".join(json.dumps(row) for row in rows).encode()
            continue
        sink = io.StringIO()
        writer = csv.DictWriter(sink, rows[0], delimiter={"semicolons": ";", "tabs": "\t"}.get(variant, ","))
        writer.writeheader()
        writer.writerows(rows)
        found[table] = sink.getvalue().encode("utf-16" if variant == "utf-16" else "utf-8-sig")
    return found


def write_lists(truth: Truth, variant: str) -> Entries:
    names = truth.names()
    found = pictures(truth, lambda split, name: f"{split}/{name}")
    found["labels.txt"] = "\n".join(names)
    for split in truth.splits():
        rows = [(name, row[1][0]) for name, row in truth.rows.items() if row[0] == split]
        separator = "\t" if variant == "tsv" else " "
        lines = [f"{split}/{name}{separator}{names.index(label)}" for name, label in rows]
        found[f"{split}.{variant}"] = "\n".join(lines) + "\n"
    return found


CLASSIFIED = [
    *(("folders", write_folders, v) for v in ("plain", "nested", "deeper", "class first", "valid", "stray")),
    *(("table", write_table, v) for v in
      ("column", "semicolons", "tabs", "upper", "named", "metadata", "folders", "utf-16", "jsonl")),
    *(("iris", write_lists, v) for v in ("txt", "tsv")),
]  # fmt: skip
DETECTED = [
    *(("coco", write_coco, v) for v in
      ("roboflow", "renumbered", "named", "whole", "backslash", "server", "text ids", "float ids", "polygon")),
    *(("yolo", write_yolo, v) for v in ("roboflow", "ultralytics", "darknet", "polygon")),
    *(("voc", write_voc, v) for v in ("main", "beside")),
]  # fmt: skip
QUICK = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
Writer = Callable[[Truth, str], Entries]


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
    gone = data.draw(st.sampled_from(sorted(name for name in entries if name.endswith(".jpg"))))
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
    begin = time.process_time()
    assert masks.fit(Listing(tmp_path, names)) is not None
    assert time.process_time() - begin < 5
