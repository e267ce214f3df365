"""Data sets written in every layout that an upload may have, and its variants: what is read must equal it."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from PIL import Image

W, H = 64, 48


def picture(number: int, form: str = "JPEG", size: tuple[int, int] = (W, H)) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", size, (number * 37 % 256, number * 91 % 256, 90)).save(sink, form)
    return sink.getvalue()


Row = tuple[str, tuple[str, ...], tuple[tuple[str, tuple[float, ...]], ...]]


@dataclass
class Truth:
    """A data set: the split, the labels, and the boxes (label, xyxy) of each image by its base name."""

    rows: dict[str, Row] = field(default_factory=dict)
    images: dict[str, bytes] = field(default_factory=dict, compare=False)
    """Real ones by base name; the others are drawn, by their number."""

    def picture(self, name: str) -> bytes:
        return self.images[name] if self.images else picture(list(self.rows).index(name))

    def size(self, name: str) -> tuple[int, int]:
        if not self.images:
            return W, H
        with Image.open(io.BytesIO(self.images[name])) as image:
            return image.size

    def splits(self) -> list[str]:
        return sorted({split for split, _, _ in self.rows.values()})

    def names(self) -> list[str]:
        found = {label for _, labels, _ in self.rows.values() for label in labels}
        return sorted(found | {label for _, _, boxes in self.rows.values() for label, _ in boxes})


Entries = dict[str, bytes | str]


def pictures(truth: Truth, place: Callable[[str, str], str]) -> Entries:
    return {place(split, name): truth.picture(name) for name, (split, _, _) in truth.rows.items()}


# Layouts, each with its variants


def write_folders(truth: Truth, variant: str) -> Entries:
    found: Entries = {}
    for name, (split, (label,), _) in truth.rows.items():
        folder = {"val": "valid"}.get(split, split) if variant == "valid" else split
        place = {
            "plain": f"{folder}/{label}/{name}",
            "nested": f"export/set/{folder}/{label}/{name}",
            "deeper": f"{folder}/{label}/more/{name}",
            "class first": f"{label}/{folder}/{name}",
            "valid": f"data/{folder.upper()}/{label}/{name}",
            "stray": f"{folder}/{label}/{name}",
            "zips": f"{folder}/{label}/{name}",
        }[variant]
        found[place] = truth.picture(name)
    if variant == "stray":
        found["export-metadata.json"] = '{"tool": "mine"}'
        found["stats.csv"] = "class,count\ncat,2\n"
        found[f"train/{truth.names()[0]}/p0.json"] = '{"shapes": [], "imagePath": "p0.jpg"}'
        found["README.md"] = "made by hand"
    return _zipped(found) if variant == "zips" else found


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
                "label studio": f"../../label-studio/data/media/upload/1/{own}/images/{name}",
                "percent": quote(f"{own}/images/{name}"), "elsewhere": f"/home/me/set/{own}/images/{name}",
                "vision-datasets": f"{own}.zip@images/{name}",
            }.get(variant, f"{own}/images/{name}")  # fmt: skip
            width, height = truth.size(name)
            key_of_image = str(number) if variant == "text ids" else number
            images.append({"id": key_of_image, "file_name": path, "width": width, "height": height})
            for label, (x0, y0, x1, y1) in boxes:
                note: dict[str, Any] = {
                    "id": len(notes),
                    "image_id": number,
                    "category_id": key(names.index(label) + 1),
                }
                if variant == "polygon":
                    note["segmentation"] = [[x0, y0, x1, y0, x1, y1, x0, y1]]
                elif variant == "vision-datasets":
                    note["bbox"] = [x0, y0, x1, y1]
                else:
                    note["bbox"] = [x0, y0, x1 - x0, y1 - y0]
                notes.append(note)
        categories = [{"id": number + 1, "name": name} for number, name in enumerate(names)]
        document = {"images": images, "annotations": notes, "categories": categories}
        if variant == "vision-datasets":
            document["bbox_format"] = "ltrb"  # type: ignore[assignment]
        text = json.dumps(document)
        place = {"roboflow": f"{split}/_annotations.coco.json", "renumbered": f"{split}/_annotations.coco.json",
                 "named": f"annotations/instances_{split}2017.json"}.get(variant, "result.json")  # fmt: skip
        found[place] = text
    return _zipped(found) if variant == "vision-datasets" else found


def _zipped(entries: Entries) -> Entries:
    """The images of each split in a zip of their own: ``train/images/a.jpg`` as ``images/a.jpg`` of ``train.zip``."""
    inner: dict[str, io.BytesIO] = {}
    found: Entries = {}
    for name, data in entries.items():
        split, slash, rest = name.partition("/")
        if not slash:
            found[name] = data
            continue
        with zipfile.ZipFile(inner.setdefault(f"{split}.zip", io.BytesIO()), "a") as bundle:
            bundle.writestr(rest, data)
    return {**found, **{name: sink.getvalue() for name, sink in inner.items()}}


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
        w, h = truth.size(name)
        for label, (x0, y0, x1, y1) in boxes:
            if variant == "polygon":
                sides = (x0 / w, y0 / h, x1 / w, y0 / h, x1 / w, y1 / h, x0 / w, y1 / h)
            else:
                sides = ((x0 + x1) / 2 / w, (y0 + y1) / 2 / h, (x1 - x0) / w, (y1 - y0) / h)
            lines.append(f"{names.index(label)} {' '.join(f'{side:.6f}' for side in sides)}")
        image = PurePosixPath(place(split, name))
        parts = ["labels" if part == "images" else part for part in image.with_suffix(".txt").parts]
        found["/".join(parts)] = "\r\n".join(lines) + "\n"
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
            f"<object><name>{label}</name><difficult>0</difficult><bndbox><xmin>{x0 + 1}</xmin>"
            f"<ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
            for label, (x0, y0, x1, y1) in boxes
        )
        w, h = truth.size(name)
        text = (
            f"<annotation><folder>x</folder><filename>{name}</filename><size><width>{w}</width><height>{h}</height>"
            f"<depth>3</depth></size>{objects}</annotation>"
        )
        place = f"{split}/{name}" if beside else f"VOC2007/Annotations/{name}"
        found[str(PurePosixPath(place).with_suffix(".xml"))] = text
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
    *(("folders", write_folders, v) for v in ("plain", "nested", "deeper", "class first", "valid", "stray", "zips")),
    *(("table", write_table, v) for v in
      ("column", "semicolons", "tabs", "upper", "named", "metadata", "folders", "utf-16", "jsonl")),
    *(("iris", write_lists, v) for v in ("txt", "tsv")),
]  # fmt: skip
DETECTED = [
    *(("coco", write_coco, v) for v in
      ("roboflow", "renumbered", "named", "whole", "backslash", "server", "label studio", "percent",
       "elsewhere", "vision-datasets", "text ids", "float ids", "polygon")),
    *(("yolo", write_yolo, v) for v in ("roboflow", "ultralytics", "darknet", "polygon")),
    *(("voc", write_voc, v) for v in ("main", "beside")),
]  # fmt: skip
Writer = Callable[[Truth, str], Entries]
