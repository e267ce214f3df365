"""Artifacts are there whole or not at all, in a folder, in an object store, and behind any fsspec address."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from services.errors import Kind, Problem
from services.storage import artifacts as module
from services.storage.artifacts import Artifact, ArtifactStore
from services.storage.blobs import Blobs, LocalBlobs, open_blobs
from services.storage.database import connect, reading, upgrade
from services.storage.tables import blobs as blob_table
from tests.support.postgres import Postgres
from tests.support.s3 import CREDENTIALS, s3_server

OWNER = "key_a"


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(params=["folder", "s3", "fsspec"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    if request.param == "folder":
        return open_blobs(str(tmp_path / "artifacts"))
    if request.param == "fsspec":  # any other address: here a folder through fsspec's own driver
        return open_blobs(f"local://{tmp_path / 'through-fsspec'}")
    import boto3

    url = request.getfixturevalue("s3")
    bucket = f"b{os.urandom(6).hex()}"
    client = boto3.client(
        "s3", endpoint_url=url, aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1"
    )
    client.create_bucket(Bucket=bucket)
    return open_blobs(f"s3://{bucket}/sightline", {"endpoint_url": url, **CREDENTIALS})


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    upgrade(url)
    return connect(url)


@pytest.fixture
def kept(engine: Engine, store: Blobs, tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(engine, store, tmp_path / "scratch", quota_bytes=10_000_000)


def add(kept: ArtifactStore, content: bytes, owner: str = OWNER, name: str = "x.bin") -> Artifact:
    with kept.draft() as draft:
        draft.write(content)
        return kept.add(draft, owner, name, "application/octet-stream")


def content_of(kept: ArtifactStore, artifact: Artifact) -> bytes:
    return b"".join(kept.read(artifact))


def test_content_comes_back_whole_and_by_range(kept: ArtifactStore, tmp_path: Path) -> None:
    data = os.urandom(700_000)
    artifact = add(kept, data)
    assert (artifact.size, artifact.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert content_of(kept, kept.get(OWNER, artifact.id)) == data
    assert b"".join(kept.read(artifact, 262_100, 262_200)) == data[262_100:262_200]
    assert kept.copy_to(artifact, tmp_path / "copy").read_bytes() == data
    assert not list((tmp_path / "scratch").iterdir())


def test_one_content_is_kept_once_and_as_long_as_somebody_names_it(kept: ArtifactStore, store: Blobs) -> None:
    first, second = add(kept, b"same"), add(kept, b"same", owner="key_b")
    kept.delete(OWNER, first.id)
    assert content_of(kept, second) == b"same"
    kept.delete("key_b", second.id)
    assert not store.exists(second.sha256)
    third = add(kept, b"same")
    assert content_of(kept, third) == b"same"


def test_another_owner_finds_nothing(kept: ArtifactStore) -> None:
    artifact = add(kept, b"mine")
    for owner, name in (("key_b", artifact.id), (OWNER, "art_x"), (OWNER, "../../etc/passwd")):
        for call in (kept.get, kept.delete):
            with pytest.raises(Problem) as refused:
                call(owner, name)
            assert refused.value.kind is Kind.NOT_FOUND
    assert content_of(kept, artifact) == b"mine"


def test_a_failed_transaction_leaves_no_artifact_and_the_content_is_swept(
    kept: ArtifactStore, store: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kept.draft() as draft:
        draft.write(b"never")

        def fails(_: object) -> None:
            raise RuntimeError("the worker dies here")

        with pytest.raises(RuntimeError):
            kept.publish([draft], fails)
        sha256 = draft.finish()
    assert kept.list(OWNER) == []
    assert store.exists(sha256)
    kept.sweep()
    assert store.exists(sha256)  # young: it may be somebody's who is about to commit
    monkeypatch.setattr(module, "_STRAY_SECONDS", -5.0)
    assert kept.sweep() == 1
    assert not store.exists(sha256)


def test_what_is_named_is_never_swept(kept: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = add(kept, b"kept")
    monkeypatch.setattr(module, "_STRAY_SECONDS", -5.0)
    assert kept.sweep() == 0
    assert content_of(kept, artifact) == b"kept"


def test_uploads_expire(kept: ArtifactStore, store: Blobs) -> None:
    artifact = add(kept, b"old")
    assert kept.expire(time.time() - 10) == 0
    assert kept.expire(time.time() + 10) == 1
    assert kept.list(OWNER) == [] and not store.exists(artifact.sha256)


class TestInAFolder:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Blobs:
        return LocalBlobs(tmp_path / "artifacts")

    def test_a_quota_holds(self, kept: ArtifactStore) -> None:
        add(kept, b"x" * 6_000_000)
        assert kept.room(OWNER) == 4_000_000
        with pytest.raises(Problem) as refused:
            add(kept, b"y" * 5_000_000)
        assert refused.value.code == "artifact-quota"
        assert kept.room(OWNER) == 4_000_000
        add(kept, b"y" * 5_000_000, owner="key_b")

    def test_a_draft_has_its_limit(self, kept: ArtifactStore, tmp_path: Path) -> None:
        with pytest.raises(Problem) as refused, kept.draft(10) as draft:
            draft.write(b"x" * 8)
            draft.write(b"x" * 8)
        assert refused.value.code == "artifact-too-large"
        assert not list((tmp_path / "scratch").iterdir())

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
    def test_a_full_disk_is_told_and_leaves_nothing(
        self, kept: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        def full(_: int) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(Problem) as told:
            add(kept, b"x" * 100)
        assert (told.value.kind, told.value.code) == (Kind.UNAVAILABLE, "storage-full")
        monkeypatch.undo()
        assert kept.list(OWNER) == [] and not list((tmp_path / "scratch").iterdir())

    def test_drafts_of_dead_processes_are_swept(
        self, kept: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept.draft().write(b"nobody comes back for this")
        kept.sweep()
        assert len(list((tmp_path / "scratch").iterdir())) == 1
        monkeypatch.setattr(module, "_STRAY_SECONDS", -5.0)
        kept.sweep()
        assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_publishing_and_collecting_one_content_at_once_loses_nothing(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if database == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.database()
    else:
        url = f"sqlite:///{tmp_path / 'race.db'}"
    upgrade(url)
    engine = connect(url)
    kept = ArtifactStore(engine, LocalBlobs(tmp_path / "artifacts"), tmp_path / "scratch")
    errors: list[BaseException] = []
    left: list[Artifact] = []

    def churn(owner: str) -> None:
        try:
            for turn in range(25):
                artifact = add(kept, b"contended", owner=owner)
                assert content_of(kept, artifact) == b"contended"
                if turn < 24:
                    kept.delete(owner, artifact.id)
                else:
                    left.append(artifact)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=churn, args=(f"key_{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for artifact in left:
        assert content_of(kept, artifact) == b"contended"
        kept.delete(artifact.owner, artifact.id)
    with reading(engine) as connection:
        assert connection.execute(select(blob_table)).all() == []
    assert not [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]
    engine.dispose()
