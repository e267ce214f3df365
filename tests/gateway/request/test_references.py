"""An image may be named instead of sent; what a name stands for is bounded, and only its owner may use it."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from gateway.app import create_app
from gateway.request.references import References
from services.errors import Kind, Problem
from services.media.intake import Limits
from services.media.remote import RemoteImages
from services.settings import Settings
from services.storage.artifacts import ArtifactStore
from services.storage.blobs import open_blobs
from services.storage.database import connect, upgrade
from services.storage.keys import KeyStore
from tests.support.asgi import client

OWNER = "key_a"


@pytest.fixture
def store(settings: Settings) -> Iterator[ArtifactStore]:
    upgrade(settings.database)
    engine = connect(settings.database)
    yield ArtifactStore(engine, open_blobs(settings.artifact_address), settings.scratch_dir)
    engine.dispose()


def keep(store: ArtifactStore, data: bytes, owner: str = OWNER) -> str:
    """Store ``data``; its reference."""
    with store.draft() as draft:
        draft.write(data)
        return f"artifact:{store.add(draft, owner, 'a.png', 'image/png').id}"


def references(settings: Settings, store: ArtifactStore, *, per_request: int = 1000, held: int = 1000) -> References:
    limits = Limits(max_bytes=800, max_pixels=10_000, max_aspect=10, max_frames=1)
    return References(limits, RemoteImages(settings), store, per_request=per_request, held=held)


async def test_references_become_bytes_and_what_was_sent_stays(settings: Settings, store: ArtifactStore) -> None:
    images = [("/images/0", keep(store, b"one")), ("/images/1", b"sent"), ("/images/2", "c2VudA==")]
    async with references(settings, store).followed(images, OWNER, None) as found:
        assert list(found) == [("/images/0", b"one"), ("/images/1", b"sent"), ("/images/2", "c2VudA==")]


async def test_of_others_artifacts_nobody_learns_that_they_exist(settings: Settings, store: ArtifactStore) -> None:
    for reference in (keep(store, b"secret", "key_b"), "artifact:art_none", "artifact:", "artifact:../../etc/passwd"):
        with pytest.raises(Problem) as caught:
            async with references(settings, store).followed([("/image", reference)], OWNER, None):
                pass
        assert (caught.value.kind, caught.value.code) == (Kind.NOT_FOUND, "artifact-not-found")
        assert caught.value.pointer == "/image"


async def test_what_a_request_names_is_bounded_one_by_one_and_together(
    settings: Settings, store: ArtifactStore
) -> None:
    half = keep(store, b"x" * 600)
    for names, code, pointer in [
        ([keep(store, b"x" * 801)], "image-too-large", "/images/0"),
        ([half, half], "images-too-large", "/images/1"),
    ]:
        images = [(f"/images/{index}", name) for index, name in enumerate(names)]
        with pytest.raises(Problem) as caught:
            async with references(settings, store).followed(images, OWNER, None):
                pass
        assert (caught.value.kind, caught.value.code, caught.value.pointer) == (Kind.TOO_LARGE, code, pointer)


async def test_requests_wait_for_each_others_memory_but_not_beyond_their_deadline(
    settings: Settings, store: ArtifactStore
) -> None:
    one = references(settings, store)
    images = [("/image", keep(store, b"x"))]
    async with one.followed(images, OWNER, None):
        with pytest.raises(Problem) as caught:
            async with one.followed(images, OWNER, time.perf_counter() + 0.02):
                pass
        assert caught.value.kind is Kind.DEADLINE
        next_one = asyncio.create_task(one.followed(images, OWNER, None).__aenter__())
        await asyncio.sleep(0.02)
        assert not next_one.done()
    await asyncio.wait_for(next_one, 1)


async def test_an_uploaded_picture_is_classified_and_embedded_by_its_name(settings: Settings, repository: Path) -> None:
    sink = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(sink, "PNG")
    app = create_app(settings.model_copy(update={"default_classifier": "tiny-classifier"}))
    engine = connect(settings.database)
    keys = KeyStore(engine)
    mine, other = (keys.create(name, ["infer", "jobs"])[1] for name in ("mine", "other"))
    engine.dispose()

    async with client(app) as http:

        async def post(path: str, secret: str, **more: object) -> httpx.Response:
            return await http.post(path, headers={"X-API-Key": secret}, **more)  # type: ignore[arg-type]

        kept = await post("/v1/artifacts?name=a.png", mine, content=sink.getvalue())
        body = {"images": [f"artifact:{kept.json()['id']}"], "model": "tiny-classifier"}
        answer = await post("/v1/classify", mine, json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["results"][0]["width"] == 40
        assert (await post("/v1/embeddings", mine, json=body)).status_code == 200
        refused = await post("/v1/classify", other, json=body)
        assert (refused.status_code, refused.json()["pointer"]) == (404, "/images/0")
