"""A set that somebody has damaged or touched since it was written is read right, or what is wrong with it is told."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from services.datasets.archive import ArchiveLimits
from services.datasets.importing import Imported, import_archive
from services.datasets.package import Package
from services.errors import Problem
from services.media.intake import Limits
from tests.support.dataset_layouts import CLASSIFIED, DETECTED, Entries, H, Truth, W, Writer, picture

IMAGES = Limits(max_bytes=1 << 20, max_pixels=1_000_000, max_aspect=50, max_frames=10)
FORMS = [*CLASSIFIED, *DETECTED]
TEXTS = (".json", ".txt", ".tsv", ".csv", ".jsonl", ".xml", ".yaml", ".names")


def truth_for(layout: str, *, accents: bool = False) -> Truth:
    """Two splits of six images of two classes each, with boxes where the layout has them."""
    names = ("Käfer", "Vögel") if accents else ("cat", "dog")
    truth = Truth()
    for number in range(24):
        split, name = ("train", "test")[number // 12], names[number % 2]
        boxes = ((name, (4.0, 6.0, 20.0 + number, 30.0)),) if layout in ("coco", "yolo", "voc") else ()
        truth.rows[f"p{number}.jpg"] = (split, (name,), boxes)
    return truth


def take(folder: Path, entries: Entries, **options: bool) -> Imported:
    with zipfile.ZipFile(folder / "upload.zip", "w") as bundle:
        for name, data in entries.items():
            bundle.writestr(name, data)
    return import_archive(
        folder / "upload.zip", "set", folder / "package.zip", IMAGES, ArchiveLimits(),
        allow_losses=options.get("allow_losses", False),
    )  # fmt: skip


def read(folder: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Split and labels of each image."""
    with Package(folder / "package.zip") as package:
        found = [(stored.sample, package.classes) for stored in package.samples]
    return {
        Path(one.path).name: (one.split, tuple(sorted(classes[label] for label in one.labels)))
        for one, classes in found
    }


def expected(truth: Truth) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {name: (split, labels) for name, (split, labels, _) in truth.rows.items()}


def told(problem: Problem | Imported) -> str:
    """Everything that is said of what went wrong."""
    if isinstance(problem, Problem):
        return json.dumps([problem.detail, problem.extra], ensure_ascii=False)
    assert problem.account is not None
    return json.dumps([problem.account.document(), [flaw.message for flaw in problem.flaws]], ensure_ascii=False)


def same_or_told(folder: Path, entries: Entries, truth: Truth) -> str:
    """What is said where anything differs from ``truth``; the test fails where nothing is said."""
    try:
        imported = take(folder, entries)
    except Problem as problem:
        return told(problem)
    found = read(folder)
    if found == expected(truth):
        return ""
    assert imported.flaws or "left_out" in told(imported)
    wrong = {name for name, row in found.items() if row != expected(truth)[name]}
    assert not wrong, f"{wrong} changed without a word"
    return told(imported)


STRAY: dict[str, str] = {
    "stats.csv": "class,count\ncat,12\n",
    "notes/README.txt": "train.jpg is the nicest\n",
    "export.json": '{"tool": "mine", "version": [1, 2]}',
    "train.log": "epoch 1\n",
    "scores.tsv": "name\tscore\nabc\t0.5\n",
    "old/labels.jsonl": '{"hello": "world"}\n',
    "layout.xml": "<layout><a/></layout>",
    "config.yaml": "lr: 0.1\nnames: {}\n",
}


@pytest.mark.parametrize(("layout", "write", "variant"), FORMS)
def test_stray_files_change_nothing_and_are_told(tmp_path: Path, layout: str, write: Writer, variant: str) -> None:
    truth = truth_for(layout)
    imported = take(tmp_path, {**write(truth, variant), **STRAY})
    assert imported.format == layout and read(tmp_path) == expected(truth)
    assert imported.account is not None
    left = sum(group.count for group in imported.account.files.left_out.values())
    assert left >= len(STRAY) - 1  # a list of words may be counted as read


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
@pytest.mark.parametrize(("layout", "write", "variant"), [form for form in FORMS if form[0] != "folders"])
def test_text_in_another_encoding_is_read_or_refused_with_its_name(
    tmp_path: Path, layout: str, write: Writer, variant: str, encoding: str
) -> None:
    truth = truth_for(layout, accents=True)
    entries: Entries = {}
    for name, data in write(truth, variant).items():
        is_text = name.lower().endswith(TEXTS)
        text = data if isinstance(data, str) else None
        if is_text and isinstance(data, bytes):
            text = data.decode("utf-16" if variant == "utf-16" else "utf-8-sig")
        if text is not None and layout == "coco" and encoding == "latin-1":
            text = json.dumps(json.loads(text), ensure_ascii=False)  # escapes are the same in every encoding
        entries[name] = data if text is None else text.encode(encoding)

    said = same_or_told(tmp_path, entries, truth)
    written = [data for data, name in ((entries[name], name) for name in entries) if name.lower().endswith(TEXTS)]
    if encoding != "latin-1" or all(bytes(data).isascii() for data in written if isinstance(data, bytes)):
        assert said == ""
    else:
        assert "save it as UTF-8" in said


def change_coco(document: dict[str, list[dict[str, object]]]) -> None:
    for image in document["images"][:6]:
        image["width"], image["height"] = image["height"], image["width"]


def test_swapped_sides_are_told_in_every_layout_that_names_them(tmp_path: Path) -> None:
    for layout, write, variant in (form for form in DETECTED if form[0] in ("coco", "voc")):
        truth = truth_for(layout)
        entries = write(truth, variant)
        for name, data in list(entries.items()):
            if isinstance(data, str) and name.endswith(".json"):
                document = json.loads(data)
                change_coco(document)
                entries[name] = json.dumps(document)
            if isinstance(data, str) and name.endswith(".xml"):
                swapped = f"<width>{H}</width><height>{W}</height>"
                entries[name] = data.replace(f"<width>{W}</width><height>{H}</height>", swapped)
        with pytest.raises(Problem) as caught:
            take(tmp_path, entries)
        assert f"{H} x {W}" in told(caught.value), (layout, variant)


def damage_the_test_split(entries: Entries, layout: str) -> str | None:
    """Cut what lists the test split (its list, table or json) in the middle; its name, where there is such a file."""
    suffixes = (".json", ".csv", ".jsonl", ".tsv", *([".txt"] if layout == "iris" else []))
    for name, data in entries.items():
        if "test" in name.lower().split("/")[0] and name.lower().endswith(suffixes):
            whole = data.encode() if isinstance(data, str) else data
            entries[name] = b"\xff\xfe\xfa" + whole[: len(whole) // 2]
            return name
    return None


@pytest.mark.parametrize(("layout", "write", "variant"), FORMS)
def test_a_split_whose_file_is_damaged_is_refused(tmp_path: Path, layout: str, write: Writer, variant: str) -> None:
    entries = write(truth_for(layout), variant)
    name = damage_the_test_split(entries, layout)
    if name is None:
        return
    with pytest.raises(Problem) as caught:
        take(tmp_path, entries)
    assert Path(name).name in told(caught.value)


Ids = Callable[[int], object]


@pytest.mark.parametrize("of_image", [int, str, float, lambda n: f"img-{n:03d}", lambda n: f" {n} ", lambda n: -n])
@pytest.mark.parametrize("of_class", [int, str, float, lambda n: f"c{n}", lambda n: -n])
def test_ids_of_any_type_are_the_same_wherever_they_stand(tmp_path: Path, of_image: Ids, of_class: Ids) -> None:
    images = [{"id": of_image(n), "file_name": f"{n}.jpg", "width": W, "height": H} for n in range(4)]
    notes = [{"image_id": of_image(n), "category_id": of_class(n % 2 + 1), "bbox": [1, 2, 9, 9]} for n in range(4)]
    categories = [{"id": of_class(n), "name": name} for n, name in ((1, "cat"), (2, "dog"))]
    document = json.dumps({"images": images, "annotations": notes, "categories": categories})
    take(tmp_path, {**{f"{n}.jpg": picture(n) for n in range(4)}, "a.json": document})
    assert read(tmp_path) == {f"{n}.jpg": ("train", (("cat", "dog")[n % 2],)) for n in range(4)}


def test_crowds_and_difficult_objects_are_marked_in_every_layout_that_has_them(tmp_path: Path) -> None:
    truth = truth_for("voc")
    coco = next(write for layout, write, _ in DETECTED if layout == "coco")(truth, "whole")
    document = json.loads(str(coco["result.json"]))
    for note in document["annotations"][::2]:
        note["iscrowd"] = 1
    coco["result.json"] = json.dumps(document)
    voc = next(write for layout, write, _ in DETECTED if layout == "voc")(truth, "beside")
    even = {f"p{n}.xml" for n in range(0, 24, 2)}
    for name, data in list(voc.items()):
        if Path(name).name in even:
            voc[name] = str(data).replace("<difficult>0<", "<difficult>1<")

    for entries in (coco, voc):
        imported = take(tmp_path, entries)
        assert imported.counts.classes == {"cat": 0, "dog": 12}  # what is ignored is no object
        with Package(tmp_path / "package.zip") as package:
            marked = {Path(one.sample.path).name: [box.ignore for box in one.sample.boxes] for one in package.samples}
        assert marked == {f"p{n}.jpg": [n % 2 == 0] for n in range(24)}


def test_a_row_for_each_object_joins_to_one_image(tmp_path: Path) -> None:
    sink = io.StringIO()
    writer = csv.writer(sink)
    writer.writerow(["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"])
    for n in range(4):
        for k, name in enumerate(("cat", "dog")):
            writer.writerow([f"{n}.jpg", W, H, name, 1 + k, 2, 30 + k, 40])
    imported = take(tmp_path, {**{f"images/{n}.jpg": picture(n) for n in range(4)}, "train.csv": sink.getvalue()})
    assert imported.task == "detection" and imported.counts.classes == {"cat": 4, "dog": 4}
    assert imported.account is not None and imported.account.annotations.read == 8
