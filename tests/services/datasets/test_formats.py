"""Each layout is read into the same samples, and what is wrong is told with its file and line."""

import json

import pytest

from services.datasets.formats import choose, read
from services.datasets.listing import Listing
from services.datasets.samples import Box, Flaw, Sample, readable_classes
from services.errors import Problem


def lay(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    listing = Listing(root, files)
    return read(listing, choose(listing).name)


def test_class_folders_below_splits(tmp_path):
    parsed = lay(tmp_path, {"set/train/cat/1.png": b"", "set/train/dog/2.png": b"", "set/valid/cat/3.jpg": b""})
    assert (parsed.format, parsed.task, parsed.classes) == ("folders", "classification", ["cat", "dog"])
    assert {(sample.path, sample.split, sample.labels) for sample in parsed.samples} == {
        ("set/train/cat/1.png", "train", (0,)),
        ("set/train/dog/2.png", "train", (1,)),
        ("set/valid/cat/3.jpg", "val", (0,)),
    }


def test_class_folders_alone_are_all_training(tmp_path):
    parsed = lay(tmp_path, {"cat/1.png": b"", "dog/2.png": b"", "stray.png": b""})
    assert [sample.split for sample in parsed.samples] == ["train", "train"]
    assert parsed.flaws.first == [Flaw("stray.png", None, "the image lies in no class folder")]


def test_coco_boxes_are_cut_to_the_image_and_bad_ones_told(tmp_path):
    document = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 100, "height": 50}, {"id": 8, "file_name": "gone.jpg"}],
        "categories": [{"id": 3, "name": "fish"}, {"id": 1, "name": "crab"}],
        "annotations": [
            {"image_id": 7, "category_id": 3, "bbox": [90, 40, 20, 20]},
            {"image_id": 7, "category_id": 1, "bbox": [0, 0, 0, 5]},
            {"image_id": 7, "category_id": 9, "bbox": [0, 0, 5, 5]},
        ],
    }
    parsed = lay(tmp_path, {"annotations_test.json": json.dumps(document), "test/a.jpg": b""})
    assert parsed.classes == ["crab", "fish"]
    assert parsed.samples == [Sample("test/a.jpg", "test", (1,), (Box(1, (90.0, 40.0, 100.0, 50.0)),))]
    assert [flaw.message.split(":")[0] for flaw in parsed.flaws.first] == [
        "images[1]", "annotations[1]", "annotations[2] has the unknown category 9",
    ]  # fmt: skip


def test_every_oddity_of_a_coco_file_is_read_or_told(tmp_path):
    """String ids, no sizes, one file named twice, crowds, masks in run lengths, negative sizes: all of it is said."""
    mask = [12, 3, 7, 3, 75]  # of 10 x 10, down the columns: rows 2 to 4 of columns 1 and 2
    boxes = [
        {"bbox": [10, 10, 20, 20], "iscrowd": 1},
        {"segmentation": {"counts": mask, "size": [10, 10]}},
        {"segmentation": {"counts": "<370T2", "size": [10, 10]}},
        {"bbox": [10, 10, -5, 5]},
        {"bbox": [-5, -5, 15, 15]},
        {"segmentation": {"counts": [200], "size": [10, 10]}},
        {"segmentation": {"counts": [100], "size": [10, 10]}},
        {"segmentation": {"counts": "~~", "size": [10, 10]}},
    ]
    document = {
        "images": [{"id": "a", "file_name": "a.jpg"}, {"id": "b", "file_name": "a.jpg"}],
        "categories": [{"id": "3", "name": "fish"}],
        "annotations": [{"image_id": "ab"[number % 2], "category_id": 3} | box for number, box in enumerate(boxes)],
    }
    parsed = lay(tmp_path, {"annotations_train.json": json.dumps(document), "train/a.jpg": b""})
    [sample] = parsed.samples
    assert [(box.xyxy, box.ignore) for box in sample.boxes] == [
        ((10, 10, 30, 30), True), ((1, 2, 3, 5), False), ((1, 2, 3, 5), False), ((-5, -5, 10, 10), False),
    ]  # fmt: skip
    told = [flaw.message for flaw in parsed.flaws.first]
    assert [message.split(": ", 1)[0] for message in told] == [f"annotations[{number}]" for number in (3, 5, 6, 7)]
    assert "no area" in told[0] and "no run lengths" in told[1] and "mask is empty" in told[2]


def test_csv_labels_and_splits(tmp_path):
    table = "image,label,split\na.png,cat,train\nb.png,dog,test\nc.png,,train\nmissing.png,cat,train\nb.png,cat,odd\n"
    parsed = lay(tmp_path, {"labels.csv": table, "a.png": b"", "b.png": b"", "c.png": b""})
    assert [(sample.path, sample.split, sample.labels) for sample in parsed.samples] == [
        ("a.png", "train", (0,)), ("b.png", "test", (1,)),
    ]  # fmt: skip
    assert [(flaw.file, flaw.line) for flaw in parsed.flaws.first] == [
        ("labels.csv", 4),
        ("labels.csv", 5),
        ("labels.csv", 6),
    ]


def test_blank_labels_and_captions_are_none(tmp_path):
    rows = [{"label": " "}, {"caption": "\t"}, {"caption": ["", "a cat"]}, {"labels": ["", "cat"]}]
    lines = "\n".join(json.dumps({"image": f"{number}.png", **row}) for number, row in enumerate(rows))
    parsed = lay(tmp_path, {"data.jsonl": lines, **{f"{number}.png": b"" for number in range(4)}})
    assert parsed.classes == ["cat"]
    assert [(sample.labels, sample.captions) for sample in parsed.samples] == [((), ("a cat",)), ((0,), ())]
    assert [(flaw.line, flaw.message) for flaw in parsed.flaws.first] == [
        (1, "neither a label nor a caption"),
        (2, "neither a label nor a caption"),
    ]


def test_jsonl_with_several_labels_is_multilabel(tmp_path):
    lines = '{"image": "a.png", "labels": ["cat", "dog"]}\nnot json\n{"image": "b.png", "labels": ["dog"]}\n'
    parsed = lay(tmp_path, {"data.jsonl": lines, "a.png": b"", "b.png": b""})
    assert parsed.task == "multilabel"
    assert [sample.labels for sample in parsed.samples] == [(0, 1), (1,)]
    assert parsed.flaws.first[0].line == 2


def test_elevater_lists_with_images_inside_of_zips(tmp_path):
    parsed = lay(
        tmp_path,
        {"labels.txt": "cat\ndog\n", "train.txt": "train.zip@a b.png 1\nx.png 0\n", "test.tsv": "c.png\t5\n",
         "train.zip/a b.png": b"", "c.png": b""},
    )  # fmt: skip
    assert parsed.format == "iris"
    assert parsed.samples == [Sample("train.zip/a b.png", "train", (1,))]
    assert [(flaw.file, flaw.line) for flaw in parsed.flaws.first] == [("test.tsv", 1), ("train.txt", 2)]


def test_an_unknown_layout_says_what_is_known(tmp_path):
    with pytest.raises(Problem) as caught:
        lay(tmp_path, {"readme.md": "hello", "a.png": b""})
    assert caught.value.code == "dataset-layout-unknown"
    assert "labels.csv" in caught.value.remedy


def test_coco_values_of_the_wrong_type_are_flaws_and_not_crashes(tmp_path):
    document = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": [], "file_name": "b.jpg"}, "x"],
        "categories": {"id": 1},
        "annotations": [{"image_id": {}, "category_id": 1}, {"image_id": 1, "category_id": []}, None],
    }
    parsed = lay(tmp_path, {"a.json": json.dumps(document), "a.jpg": b"", "b.jpg": b""})
    assert [sample.path for sample in parsed.samples] == ["a.jpg"] and len(parsed.flaws) == 5


def test_of_many_flaws_the_first_are_kept_and_all_counted(tmp_path):
    parsed = lay(tmp_path, {"d.jsonl": "no\n" * 2500 + '{"image": "a.png", "label": "cat"}', "a.png": b""})
    assert (len(parsed.flaws.first), parsed.flaws.count, len(parsed.samples)) == (1000, 2500, 1)


def test_a_line_without_end_is_not_read(tmp_path):
    lines = b"x" * (3 << 20) + b'\n{"image": "a.png", "label": "cat"}'
    parsed = lay(tmp_path, {"d.jsonl": lines, "a.png": b""})
    assert "longer than 1 MiB" in parsed.flaws.first[0].message and len(parsed.samples) == 1


def test_class_names_become_one_line_each_and_distinct():
    names = ["crane", "crane", "a\nb", "", " crane ", "x\u2028y"]
    assert readable_classes(names) == ["crane", "crane (2)", "a b", "class 3", "crane (3)", "x y"]


def test_a_blank_line_of_a_label_map_keeps_its_number(tmp_path):
    parsed = lay(tmp_path, {"labels.txt": "cat\n\ndog\n", "train.txt": "a.png 2\n", "a.png": b""})
    assert parsed.classes == ["cat", "", "dog"] and parsed.samples[0].labels == (2,)
