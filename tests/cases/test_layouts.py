"""Data sets that users of other servers had trouble with: read as what they are, or reported; nothing goes unsaid."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from services.datasets.archive import ArchiveLimits
from services.datasets.importing import Imported, import_archive
from services.datasets.package import Package
from services.errors import Problem
from services.media.intake import Limits

LIMITS = Limits(max_bytes=1 << 20, max_pixels=1_000_000, max_aspect=50, max_frames=10)
Entries = dict[str, bytes | str]


def picture(number: int, form: str = "JPEG") -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (64, 48), (number * 37 % 256, number * 91 % 256, 90)).save(sink, form)
    return sink.getvalue()


@dataclass
class Found:
    """What was read: the split, labels and boxes of each picture by its path, and what was said."""

    imported: Imported
    rows: dict[str, tuple[str, list[str], list[tuple[float, ...]]]]
    ignored: dict[str, list[bool]]

    @property
    def counts(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for split, _, _ in self.rows.values():
            found[split] = found.get(split, 0) + 1
        return found

    def labels(self) -> dict[str, list[str]]:
        return {path: labels for path, (_, labels, _) in self.rows.items()}


@pytest.fixture
def take(tmp_path: Path) -> Any:
    def read(entries: Entries, **options: Any) -> Found:
        upload, package = tmp_path / "upload.zip", tmp_path / "package.zip"
        with zipfile.ZipFile(upload, "w") as bundle:
            for name, data in entries.items():
                bundle.writestr(name, data)
        imported = import_archive(upload, "set", package, LIMITS, ArchiveLimits(), **options)
        account = imported.account
        assert account is not None
        for tally in (account.files, account.annotations):
            assert tally.seen == tally.read + sum(group.count for group in tally.left_out.values())
        rows, ignored = {}, {}
        with Package(package) as opened:
            for one in opened.samples:
                own = one.sample
                labels = sorted({opened.classes[label] for label in [*own.labels, *(box.label for box in own.boxes)]})
                rows[own.path] = (own.split, labels, [box.xyxy for box in own.boxes])
                ignored[own.path] = [box.ignore for box in own.boxes]
        return Found(imported, rows, ignored)

    return read


FOLDERS: Entries = {
    f"{split}/{kind}/{index}.jpg": picture(index + 7 * (kind == "owl"))
    for split in ("train", "test")
    for kind in ("fox", "owl")
    for index in range(2)
}


# A. A file's suffix or a leftover file decides nothing


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("export-metadata.json", '{"tool": "mine"}'),
        ("train/metadata.json", '[{"a": 1}]'),
        ("stats.csv", "class,count\nfox,2\n"),
        ("train/fox/0.json", '{"shapes": [], "imagePath": "0.jpg"}'),
        ("README.txt", "fox and owl"),
        ("classes.txt", "fox\nowl\n"),
        ("data.tsv", "a\tb\n1\t2\n"),
        ("notes.xml", "<note/>"),
        ("config.yaml", "batch: 8\n"),
    ],
)
def test_class_folders_with_a_stray_file_stay_class_folders(take: Any, name: str, content: str) -> None:
    found = take({**FOLDERS, name: content})
    assert found.imported.format == "folders" and found.imported.classes == ["fox", "owl"]
    assert found.counts == {"train": 4, "test": 4}
    left_out = found.imported.account.files.left_out
    assert sum(group.count for group in left_out.values()) == 1, left_out


def test_class_folders_with_a_labelme_json_beside_each_picture(take: Any) -> None:
    beside = {name.replace(".jpg", ".json"): '{"version": "5.0", "shapes": []}' for name in FOLDERS}
    found = take({**FOLDERS, **beside})
    assert found.imported.classes == ["fox", "owl"] and len(found.rows) == 8


LINE = "0 0.5 0.5 0.25 0.5\n"
BOX = (24.0, 12.0, 40.0, 36.0)

YOLO: dict[str, Entries] = {
    "roboflow": {
        **{f"{split}/images/{n}.jpg": picture(n) for split in ("train", "valid") for n in range(2)},
        **{f"{split}/labels/{n}.txt": LINE for split in ("train", "valid") for n in range(2)},
        "data.yaml": "names: [plate]\nnc: 1\n",
    },
    "ultralytics": {
        **{f"images/{split}/{n}.jpg": picture(n) for split in ("train", "val") for n in range(2)},
        **{f"labels/{split}/{n}.txt": LINE for split in ("train", "val") for n in range(2)},
        "data.yaml": "names:\n  0: plate\n",
    },
    "darknet": {
        **{f"obj_train_data/{n}.jpg": picture(n) for n in range(4)},
        **{f"obj_train_data/{n}.txt": LINE for n in range(4)},
        "obj.names": "plate\n",
        "obj.data": "classes = 1\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\n",
        "train.txt": "data/obj_train_data/0.jpg\ndata/obj_train_data/1.jpg\n",
        "valid.txt": "data/obj_train_data/2.jpg\ndata/obj_train_data/3.jpg\n",
    },
    "classes.txt and train.txt": {
        **{f"images/{n}.jpg": picture(n) for n in range(4)},
        **{f"labels/{n}.txt": LINE for n in range(4)},
        "classes.txt": "plate\n",
        "train.txt": "images/0.jpg\nimages/1.jpg\n",
        "val.txt": "images/2.jpg\nimages/3.jpg\n",
    },
}


@pytest.mark.parametrize("kind", YOLO)
def test_yolo_is_detection_with_the_names_of_its_classes(take: Any, kind: str) -> None:
    found = take(YOLO[kind])
    assert (found.imported.task, found.imported.format) == ("detection", "yolo")
    assert found.imported.classes == ["plate"] and found.counts == {"train": 2, "val": 2}
    assert all(boxes == [BOX] for _, _, boxes in found.rows.values())


def test_voc_is_detection(take: Any) -> None:
    note = (
        "<annotation><filename>{0}.jpg</filename><size><width>64</width><height>48</height></size><object>"
        "<name>plate</name><bndbox><xmin>25</xmin><ymin>13</ymin><xmax>40</xmax><ymax>36</ymax></bndbox></object>"
        "</annotation>"
    )
    found = take({
        **{f"JPEGImages/{n}.jpg": picture(n) for n in range(2)},
        **{f"Annotations/{n}.xml": note.format(n) for n in range(2)},
    })  # fmt: skip
    assert (found.imported.task, found.imported.format, found.imported.classes) == ("detection", "voc", ["plate"])


def test_pictures_and_masks_are_refused_by_name(take: Any) -> None:
    entries = {f"images/{n}.jpg": picture(n) for n in range(3)}
    entries |= {f"masks/{n}.png": picture(n, "PNG") for n in range(3)}
    with pytest.raises(Problem) as caught:
        take(entries)
    assert "mask" in caught.value.detail.lower() + caught.value.title.lower()


PICTURES: Entries = {f"images/{n}.jpg": picture(n) for n in range(4)}


@pytest.mark.parametrize("name", ["labels.csv", "labels.CSV", "Labels.tsv", "labels.TSV"])
@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_a_table_is_a_table_whatever_its_suffix_and_separator(take: Any, name: str, mark: str) -> None:
    rows = [f"images/{n}.jpg{mark}{'cat' if n % 2 else 'dog'}" for n in range(4)]
    found = take({**PICTURES, name: "\n".join([f"image{mark}label", *rows])})
    assert found.imported.format == "table" and found.imported.classes == ["cat", "dog"]
    assert not found.imported.flaws


# B. Nothing is dropped or moved without a word


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "tsv"])
@pytest.mark.parametrize("place", ["metadata", "train.csv", "one table"])
def test_test_pictures_never_leak_into_training(take: Any, suffix: str, place: str) -> None:
    def table(column: str, names: list[str]) -> str:
        if suffix == "jsonl":
            return "\n".join(json.dumps({column: name, "label": ["cat", "dog"][n % 2]}) for n, name in enumerate(names))
        mark = "," if suffix == "csv" else "\t"
        rows = [f"{name}{mark}{['cat', 'dog'][n % 2]}" for n, name in enumerate(names)]
        return "\n".join([f"{column}{mark}label", *rows])

    by_split = {f"{split}/{n}.jpg": picture(n + 3 * (split == "test")) for split in ("train", "test") for n in range(2)}
    if place == "metadata":
        tables = {f"{split}/metadata.{suffix}": table("file_name", ["0.jpg", "1.jpg"]) for split in ("train", "test")}
        entries = {**by_split, **tables}
    elif place == "one table":
        entries = {**by_split, f"labels.{suffix}": table("image", list(by_split))}
    else:
        entries = {
            **PICTURES,
            f"train.{suffix}": table("image", ["images/0.jpg", "images/1.jpg"]),
            f"test.{suffix}": table("image", ["images/2.jpg", "images/3.jpg"]),
        }
    found = take(entries)
    assert found.counts == {"train": 2, "test": 2} and set(found.imported.classes) == {"cat", "dog"}


def coco(images: list[dict[str, Any]], notes: list[dict[str, Any]], cats: list[tuple[Any, str]]) -> str:
    categories = [{"id": number, "name": name} for number, name in cats]
    return json.dumps({"images": images, "annotations": notes, "categories": categories})


def image(number: Any, name: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": number, "file_name": name or f"{number}.jpg", "width": 64, "height": 48, **more}


def note(number: int, of: Any, category: Any, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": of, "category_id": category, "bbox": [1, 2, 10, 12], **more}


TWO: Entries = {f"{n}.jpg": picture(n) for n in range(2)}
PETS: list[tuple[Any, str]] = [(1, "cat"), (2, "dog")]


def test_a_crowd_region_is_no_object(take: Any) -> None:
    crowd = note(1, 0, 1, bbox=[0, 0, 60, 40], iscrowd=1, segmentation={"counts": [0, 9], "size": [48, 64]})
    found = take({**TWO, "a.json": coco([image(0), image(1)], [note(0, 0, 1), crowd, note(2, 1, 2)], PETS)})
    assert found.ignored == {"0.jpg": [False, True], "1.jpg": [False]} and found.counts == {"train": 2}


# C. What tables of categories say is what is meant


def test_each_file_means_its_own_category_ids(take: Any) -> None:
    notes = [note(0, 0, 1), note(1, 1, 2)]
    entries: Entries = {f"{split}/{n}.jpg": picture(n) for split in ("train", "valid") for n in range(2)}
    entries["train/_annotations.coco.json"] = coco([image(0), image(1)], notes, PETS)
    entries["valid/_annotations.coco.json"] = coco([image(0), image(1)], notes, [(1, "dog"), (2, "cat")])
    assert take(entries).labels() == {
        "train/0.jpg": ["cat"], "train/1.jpg": ["dog"], "valid/0.jpg": ["dog"], "valid/1.jpg": ["cat"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("ids", "used", "images", "asked"),
    [
        (("1", "2"), (1, 2), (0, 1), (0, 1)),
        ((1, 2), ("1", "2"), (0, 1), (0, 1)),
        ((1.0, 2.0), (1, 2), (0, 1), (0, 1)),
        (("cat-id", "dog-id"), ("cat-id", "dog-id"), (0, 1), (0, 1)),
        ((1, 2), (1, 2), ("0", "1"), (0, 1)),
        ((1, 2), (1, 2), (0, 1), ("0", "1")),
        ((0, 7), (0, 7), (0.0, 1.0), (0, 1)),
    ],
)
def test_ids_of_any_type_are_ids(take: Any, ids: Any, used: Any, images: Any, asked: Any) -> None:
    document = coco(
        [image(images[n], f"{n}.jpg") for n in range(2)],
        [note(n, asked[n], used[n]) for n in range(2)],
        [(ids[0], "cat"), (ids[1], "dog")],
    )
    assert take({**TWO, "a.json": document}).labels() == {"0.jpg": ["cat"], "1.jpg": ["dog"]}


@pytest.mark.parametrize("cats", [[], [(5, "fish")]])
def test_categories_that_are_not_there_refuse_the_set(take: Any, cats: list[tuple[Any, str]]) -> None:
    with pytest.raises(Problem) as caught:
        take({**TWO, "a.json": coco([image(0), image(1)], [note(0, 0, 1), note(1, 1, 2)], cats)})
    assert caught.value.code in ("dataset-losses", "dataset-empty", "dataset-flawed")
    assert "categor" in json.dumps(caught.value.extra) + caught.value.detail


# D. Coordinates in another frame (sides in tests/services/datasets)


def test_sides_that_are_swapped_are_never_silent(take: Any) -> None:
    swapped = [{**image(n), "width": 48, "height": 64} for n in range(2)]
    with pytest.raises(Problem) as caught:
        take({**TWO, "a.json": coco(swapped, [note(0, 0, 1), note(1, 1, 2)], PETS)})
    assert "48" in json.dumps(caught.value.extra) and "64" in json.dumps(caught.value.extra)


# E. Paths as other tools write them

WRITTEN = {
    "backslashes": lambda name: name.replace("/", "\\"),
    "percent signs": lambda name: name.replace(" ", "%20"),
    "bare names": lambda name: name.rpartition("/")[2],
    "a leading ./": lambda name: f"./{name}",
    "a drive": lambda name: "C:\\Users\\me\\set\\" + name.replace("/", "\\"),
    "another machine's root": lambda name: f"/home/me/set/{name}",
    "file://": lambda name: f"file:///home/me/set/{name}",
    "another case": lambda name: name.upper(),
}
SPACED: Entries = {f"images/my img {n}.jpg": picture(n) for n in range(2)}


@pytest.mark.parametrize("how", WRITTEN)
@pytest.mark.parametrize("form", ["csv", "jsonl", "coco"])
def test_paths_of_other_tools_are_found(take: Any, how: str, form: str) -> None:
    names = [WRITTEN[how](name) for name in SPACED]
    if form == "csv":
        entries: Entries = {"labels.csv": f"image,label\n{names[0]},cat\n{names[1]},dog\n"}
    elif form == "jsonl":
        rows = [{"image": names[0], "label": "cat"}, {"image": names[1], "label": "dog"}]
        entries = {"labels.jsonl": "\n".join(map(json.dumps, rows))}
    else:
        images = [image(n, name) for n, name in enumerate(names)]
        entries = {"result.json": coco(images, [note(0, 0, 1), note(1, 1, 2)], PETS)}
    assert take({**SPACED, **entries}).labels() == {"images/my img 0.jpg": ["cat"], "images/my img 1.jpg": ["dog"]}


# F. Text encodings


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r\n\r\n"])
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_tables_of_any_encoding_are_read(take: Any, encoding: str, end: str, form: str) -> None:
    rows = [(f"{n}.jpg", name) for n, name in enumerate(("kočka", "犬"))]
    lines = [f"{n},{k}" for n, k in [("image", "label"), *rows]]
    if form == "jsonl":
        lines = [json.dumps({"image": n, "label": k}, ensure_ascii=False) for n, k in rows]
    found = take({**TWO, f"labels.{form}": (end.join(lines) + end).encode(encoding)})
    assert found.labels() == {"0.jpg": ["kočka"], "1.jpg": ["犬"]}


def test_a_table_that_is_compressed_is_named(take: Any) -> None:
    import gzip

    with pytest.raises(Problem) as caught:
        take({**TWO, "labels.csv": gzip.compress(b"image,label\n0.jpg,cat\n1.jpg,dog\n")}, layout="table")
    assert "gzip" in json.dumps(caught.value.extra) + caught.value.detail
