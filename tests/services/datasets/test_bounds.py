"""What an upload may cost: time in proportion to its bytes, one expansion of all that lies in it, the room left."""

from __future__ import annotations

import gc
import io
import json
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from services.datasets import samples
from services.datasets.archive import ArchiveLimits
from services.datasets.importing import Imported, import_archive
from services.datasets.package import Package
from services.datasets.time_limit import TimeLimit
from services.errors import Kind, Problem
from services.media.intake import Limits

IMAGES = Limits(max_bytes=8 << 20, max_pixels=1_000_000, max_aspect=50, max_frames=10)
Entries = dict[str, bytes | str]


def picture(size: int = 24, form: str = "PNG") -> bytes:
    sink = io.BytesIO()
    Image.effect_noise((size, size), 90).convert("RGB").save(sink, form)
    return sink.getvalue()


def packed(entries: Entries) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in entries.items():
            bundle.writestr(name, data)
    return sink.getvalue()


def take(folder: Path, entries: Entries, limits: ArchiveLimits | None = None, **options: Any) -> Imported:
    (folder / "upload.zip").write_bytes(packed(entries))
    return import_archive(
        folder / "upload.zip", "set", folder / "package.zip", IMAGES, limits or ArchiveLimits(), **options
    )


def seconds(folder: Path, entries: Entries, **options: Any) -> float:
    """CPU time of an import that is read, or refused for what would be lost: its own, without what the threads and the
    garbage of other tests cost meanwhile."""
    gc.collect()
    gc.disable()
    begin = time.thread_time()
    try:
        take(folder, entries, **options)
    except Problem as problem:
        assert problem.code in ("dataset-losses", "dataset-empty", "dataset-layout-unknown", "dataset-too-large")
    finally:
        gc.enable()
    return time.thread_time() - begin


def repeated_names(count: int) -> Entries:
    return {"a.png": picture(), "labels.txt": "cat\n" * count, "train.txt": "a.png 0\n"}


def repeated_lines(count: int) -> Entries:
    return {"a.png": picture(), "labels.txt": "cat\n", "train.txt": "a.png 0\n" * count}


def repeated_rows(count: int) -> Entries:
    return {"a.png": picture(), "labels.csv": "image,label\n" + "a.png,cat\n" * count}


def repeated_boxes(count: int) -> Entries:
    return {"images/a.png": picture(), "labels/a.txt": "0 0.5 0.5 0.2 0.2\n" * count, "data.yaml": "names: [cat]"}


def repeated_notes(count: int) -> Entries:
    note = {"image_id": 0, "category_id": 1, "bbox": [1, 1, 5, 5]}
    images, categories = [{"id": 0, "file_name": "a.png"}], [{"id": n, "name": "cat"} for n in range(count)]
    document = {"images": images * count, "annotations": [note] * count, "categories": categories}
    return {"a.png": picture(), "a.json": json.dumps(document)}


def repeated_objects(count: int) -> Entries:
    one = "<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
    return {"a.png": picture(), "a.xml": f"<annotation>{one * count}</annotation>"}


def lost_rows(count: int) -> Entries:
    return {
        "a.png": picture(),
        "labels.csv": "image,label\na.png,cat\n" + "".join(f"{n}.png,c\n" for n in range(count)),
    }


def lost_files(count: int) -> Entries:
    return {f"class{n % 7}/{n}.png": b"" for n in range(count // 16)}


@pytest.mark.parametrize(
    "entries",
    [repeated_names, repeated_lines, repeated_rows, repeated_boxes, repeated_notes, repeated_objects, lost_rows,
     lost_files],
)  # fmt: skip
def test_time_grows_with_the_bytes_and_no_faster(tmp_path: Path, entries: Any) -> None:
    few = min(seconds(tmp_path, entries(1000)) for _ in range(2))
    many = min(seconds(tmp_path, entries(8000)) for _ in range(3))
    assert many < 30 * few + 0.5, f"{few:.2f} s became {many:.2f} s with eight times as many"


def test_an_image_that_many_lines_name_is_stored_once(tmp_path: Path) -> None:
    imported = take(tmp_path, repeated_lines(500))
    assert imported.counts.splits == {"train": 500}
    size = (tmp_path / "package.zip").stat().st_size
    assert size < 500 * 200 + len(picture()) * 3
    with Package(tmp_path / "package.zip") as package:
        assert len(package.samples) == 500 and len({stored.image for stored in package.samples}) == 1
        assert Image.open(io.BytesIO(package.read(package.samples[499]))).size == (24, 24)


def test_nested_zips_share_the_expansion_of_the_upload(tmp_path: Path) -> None:
    inner = packed({"zeros.bin": bytes(4 << 20), "a.png": picture()})
    entries: Entries = {f"train{n}.zip": inner for n in range(8)}
    with pytest.raises(Problem) as caught:
        take(tmp_path, {**entries, "labels.txt": "cat", "train.txt": "train0.zip@a.png 0"})
    assert caught.value.code == "archive-too-large" and "train" in caught.value.detail
    assert sorted(path.name for path in tmp_path.iterdir()) == ["upload.zip"]


def test_a_refused_zip_inside_is_named(tmp_path: Path) -> None:
    for content, code in ((b"no zip at all", "archive-unrecognised"), (packed({}), "archive-empty")):
        with pytest.raises(Problem) as caught:
            take(tmp_path, {"a/1.png": picture(), "old.zip": content})
        assert caught.value.code == code and "'old.zip'" in caught.value.detail


def test_more_annotations_than_can_be_held_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MAX_ANNOTATIONS", 50)
    take(tmp_path, repeated_lines(50))
    for entries in (repeated_lines, repeated_boxes, repeated_notes, repeated_objects):
        with pytest.raises(Problem) as caught:
            take(tmp_path, entries(51))
        assert caught.value.code == "dataset-too-large" and caught.value.remedy


class Looks(TimeLimit):
    """A limit that ends after so many looks."""

    def __init__(self, left: int) -> None:
        super().__init__(600)
        self._left = left

    def __call__(self) -> None:
        self._left -= 1
        if self._left < 0:
            self.end()
        super().__call__()


def test_an_import_ends_at_its_limit_and_leaves_nothing(tmp_path: Path) -> None:
    looks = 0

    def watch() -> None:
        nonlocal looks
        looks += 1

    entries: Entries = {f"{label}/{n}.png": picture() for label in "ab" for n in range(3)}
    take(tmp_path, entries, watch=watch)
    (tmp_path / "package.zip").unlink()
    for end in range(looks):
        with pytest.raises(Problem) as caught:
            take(tmp_path, entries, watch=Looks(end))
        assert caught.value.code == "import-ended"
        assert [path.name for path in tmp_path.iterdir()] == ["upload.zip"]
    with pytest.raises(Problem) as caught:
        take(tmp_path, entries, watch=TimeLimit(0))
    assert caught.value.code == "import-timeout"


def test_a_package_is_written_within_the_room_that_is_left(tmp_path: Path) -> None:
    image = picture(64, "BMP")
    room, written = 3 * len(image), 0

    def afford(size: int) -> None:
        nonlocal written
        written = size
        if size > room:
            raise Problem(Kind.TOO_LARGE, "artifact-quota", "Storage quota is used up")

    with pytest.raises(Problem) as caught:
        take(tmp_path, {f"{label}/{n}.bmp": image for label in "ab" for n in range(9)}, afford=afford)
    assert caught.value.code == "artifact-quota" and written == 4 * len(image)
