"""An upload becomes a package of its sound images, with every flaw told, or leaves nothing behind."""

import io
import json
import zipfile

import pytest
from PIL import Image

from services.datasets.archive import ArchiveLimits
from services.datasets.importing import import_archive
from services.datasets.package import Package
from services.datasets.samples import Box
from services.errors import Problem
from services.media.intake import Limits

IMAGES = Limits(max_bytes=1 << 20, max_pixels=1_000_000, max_aspect=50, max_frames=10)


def png(size=(8, 6), colour=(200, 30, 30)):
    sink = io.BytesIO()
    Image.new("RGB", size, colour).save(sink, "PNG")
    return sink.getvalue()


def zipped(entries):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as bundle:
        for name, data in entries.items():
            bundle.writestr(name, data)
    return sink.getvalue()


def take(tmp_path, entries, **options):
    upload = tmp_path / "upload.zip"
    upload.write_bytes(zipped(entries))
    return import_archive(upload, "pets", tmp_path / "package.zip", IMAGES, ArchiveLimits(), **options)


def test_a_package_gives_back_what_was_uploaded(tmp_path):
    imported = take(tmp_path, {"train/cat/1.png": png(), "train/dog/2.png": png((5, 5)), "test/cat/3.png": png()})
    assert (imported.task, imported.classes) == ("classification", ["cat", "dog"])
    assert imported.counts.splits == {"train": 2, "test": 1}
    assert imported.counts.classes == {"cat": 2, "dog": 1}
    with Package(tmp_path / "package.zip") as package:
        first = package.split("train")[0]
        assert (first.sample.path, first.sample.labels, first.width, first.height) == ("train/cat/1.png", (0,), 8, 6)
        assert package.read(first) == png()


def test_the_same_upload_gives_the_same_bytes(tmp_path):
    entries = {"cat/1.png": png(), "dog/2.png": png()}
    take(tmp_path, entries)
    once = (tmp_path / "package.zip").read_bytes()
    take(tmp_path, entries)
    assert (tmp_path / "package.zip").read_bytes() == once


def test_a_corrupt_image_is_left_out_and_named(tmp_path):
    entries = {"cat/1.png": png(), "cat/2.png": png()[:-30], "dog/3.png": b"text"}
    with pytest.raises(Problem) as caught:
        take(tmp_path, entries)
    assert caught.value.code == "dataset-losses" and "class 'dog'" in caught.value.detail
    imported = take(tmp_path, entries, allow_losses=True)
    assert [flaw.file for flaw in imported.flaws] == ["cat/2.png", "dog/3.png"]
    assert imported.counts.splits == {"train": 1}


def test_strict_refuses_at_a_flaw_and_leaves_nothing(tmp_path):
    with pytest.raises(Problem) as caught:
        take(tmp_path, {"cat/1.png": png(), "cat/2.png": b"text"}, strict=True)
    assert caught.value.code == "dataset-flawed"
    assert caught.value.extra["problems"][0]["file"] == "cat/2.png"
    assert [path.name for path in tmp_path.iterdir()] == ["upload.zip"]


def test_a_set_without_a_sound_image_is_refused(tmp_path):
    with pytest.raises(Problem) as caught:
        take(tmp_path, {"cat/1.png": b"text"})
    assert caught.value.code == "dataset-empty"


def test_boxes_survive_and_one_outside_of_its_image_does_not(tmp_path):
    def coco(box):
        return json.dumps(
            {
                "images": [{"id": 1, "file_name": "a.png"}],
                "categories": [{"id": 1, "name": "fish"}],
                "annotations": [{"image_id": 1, "category_id": 1, "bbox": box}],
            }
        )

    take(tmp_path, {"a.png": png(), "_annotations.coco.json": coco([1, 1, 4, 4])})
    with Package(tmp_path / "package.zip") as package:
        assert package.samples[0].sample.boxes == (Box(0, (1.0, 1.0, 5.0, 5.0)),)
    with pytest.raises(Problem) as caught:
        take(tmp_path, {"a.png": png(), "_annotations.coco.json": coco([1, 1, 40, 4])})
    assert "outside" in caught.value.detail


def test_images_in_a_zip_of_the_upload_are_found(tmp_path):
    inner = zipped({"1.png": png(), "2.png": png()})
    entries = {"train.zip": inner, "train.txt": "train.zip@1.png 0\ntrain.zip@2.png 1\n", "labels.txt": "cat\ndog"}
    assert take(tmp_path, entries).counts.classes == {"cat": 1, "dog": 1}
