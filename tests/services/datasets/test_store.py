"""Data sets belong to their key, appear whole or not at all, and take their bytes with them when they go."""

import io
import zipfile

import pytest
from PIL import Image

from services.datasets.store import DatasetStore
from services.errors import Problem
from services.media.intake import Limits
from services.storage.artifacts import ArtifactStore
from services.storage.blobs import open_blobs
from services.storage.database import connect, upgrade

IMAGES = Limits(max_bytes=1 << 20, max_pixels=1_000_000, max_aspect=50, max_frames=10)


@pytest.fixture
def store(tmp_path):
    url = f"sqlite:///{tmp_path / 'test.db'}"
    upgrade(url)
    engine = connect(url)
    artifacts = ArtifactStore(engine, open_blobs(str(tmp_path / "artifacts"), {}), tmp_path / "scratch")
    yield DatasetStore(engine, artifacts, tmp_path / "scratch", IMAGES)
    engine.dispose()


@pytest.fixture
def upload(tmp_path):
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 99, 9)).save(picture, "PNG")
    with zipfile.ZipFile(tmp_path / "upload.zip", "w") as bundle:
        for name in ("train/cat/1.png", "train/dog/2.png", "test/cat/3.png", "train/dog/bad.png"):
            bundle.writestr(name, b"text" if "bad" in name else picture.getvalue())
    return tmp_path / "upload.zip"


def blobs(tmp_path):
    return [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]


def test_an_import_can_be_found_by_id_and_name_and_opened(store, upload, tmp_path):
    made = store.import_("key_a", "pets", upload, allow_losses=True)
    assert store.get("key_a", made.id) == store.get("key_a", "pets") == made
    assert (made.splits, made.flaw_count) == ({"train": 2, "test": 1}, 1)
    assert made.flaws[0]["file"] == "train/dog/bad.png"
    with store.open(made, tmp_path / "cache") as package:
        assert [stored.sample.path for stored in package.split("test")] == ["test/cat/3.png"]


def test_another_key_sees_nothing_of_it(store, upload):
    made = store.import_("key_a", "pets", upload, allow_losses=True)
    assert store.list("key_b") == []
    for attempt in (made.id, "pets"):
        with pytest.raises(Problem) as caught:
            store.get("key_b", attempt)
        assert caught.value.code == "dataset-not-found"
    assert store.import_("key_b", "pets", upload, allow_losses=True).id != made.id


def test_a_name_is_taken_once(store, upload, tmp_path):
    store.import_("key_a", "pets", upload, allow_losses=True)
    with pytest.raises(Problem) as caught:
        store.import_("key_a", "pets", upload, allow_losses=True)
    assert caught.value.code == "dataset-exists"


def test_a_refused_import_leaves_neither_row_nor_bytes(store, upload, tmp_path):
    with pytest.raises(Problem):
        store.import_("key_a", "pets", upload, strict=True)
    assert store.list("key_a") == []
    assert blobs(tmp_path) == []
    assert list((tmp_path / "scratch").iterdir()) == []


def test_deleting_takes_the_bytes_unless_another_set_shares_them(store, upload, tmp_path):
    store.import_("key_a", "pets", upload, allow_losses=True)
    store.import_("key_b", "pets", upload, allow_losses=True)
    store.delete("key_a", "pets")
    assert len(blobs(tmp_path)) == 1
    store.delete("key_b", "pets")
    assert blobs(tmp_path) == []
    with pytest.raises(Problem):
        store.get("key_a", "pets")


def test_the_cache_keeps_no_package_of_a_deleted_set(store, upload, tmp_path):
    cache = tmp_path / "cache"
    kept, deleted = (
        store.import_("key_a", "kept", upload, allow_losses=True),
        store.import_("key_a", "deleted", upload, allow_losses=True),
    )
    for dataset in (kept, deleted):
        with store.open(dataset, cache):
            pass
    (cache / "other.part").touch()  # being copied
    store.delete("key_a", "deleted")
    assert store.tidy(cache) == 1
    with store.open(kept, cache) as package:
        assert package.name == "kept"
    assert len(list(cache.glob("*.zip"))) == 1 and (cache / "other.part").exists()
