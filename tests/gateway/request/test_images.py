"""Images are read in order and in bounded memory; what is wrong with one says which."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from gateway.request.admission import Budget
from gateway.request.images import ImageReader
from gateway.request.references import References
from services.errors import Kind, Problem
from services.media.intake import Limits
from services.media.remote import RemoteImages
from services.settings import Settings
from services.stages import Stages
from services.storage.artifacts import ArtifactStore
from services.storage.blobs import open_blobs
from services.storage.database import connect


def png(width: int, height: int, mode: str = "RGB") -> bytes:
    sink = io.BytesIO()
    Image.new(mode, (width, height)).save(sink, "PNG")
    return sink.getvalue()


@pytest.fixture
def pictures(tmp_path: Path) -> Iterator[ImageReader]:
    settings = Settings(data_dir=tmp_path)
    limits = Limits.of(settings)
    engine = connect(settings.database)
    artifacts = ArtifactStore(engine, open_blobs(settings.artifact_address), settings.scratch_dir)
    references = References(limits, RemoteImages(settings), artifacts, per_request=4096, held=4096)
    made = ImageReader(limits, references, pixels=30_000_000, threads=2)
    yield made
    made.close()
    engine.dispose()


async def test_bytes_and_text_small_and_large_come_back_in_order(pictures: ImageReader) -> None:
    sizes = [(8, 9), (1600, 1500), (10, 11), (2000, 1000)]
    images: list[tuple[str, str | bytes]] = []
    for index, (width, height) in enumerate(sizes):
        data = png(width, height)
        images.append((f"/images/{index}", data if index % 2 else base64.b64encode(data).decode()))
    async with pictures.read(images, Stages()) as read:
        assert [(picture.width, picture.height) for picture in read] == sizes


async def test_what_is_wrong_says_where(pictures: ImageReader) -> None:
    good = png(4, 4)
    for bad, code in [("not base64!", "image-not-base64"), (b"", "image-empty"), (good[:40], "image-truncated")]:
        with pytest.raises(Problem) as caught:
            async with pictures.read([("/images/0", good), ("/images/1", bad)], Stages()):
                pass
        assert (caught.value.code, caught.value.pointer) == (code, "/images/1")
    with pytest.raises(Problem) as caught:
        async with pictures.read([("/image", "https://example.org/cat.jpg")], Stages()):
            pass
    assert (caught.value.code, caught.value.pointer) == ("image-url-disabled", "/image")


async def test_many_large_pictures_in_one_request_are_refused_before_they_are_decoded(pictures: ImageReader) -> None:
    bomb = png(5000, 4900, "1")
    assert len(bomb) < 10_000
    with pytest.raises(Problem) as caught:
        async with pictures.read([(f"/images/{index}", bomb) for index in range(64)], Stages()):
            pass
    assert (caught.value.kind, caught.value.code, caught.value.pointer) == (
        Kind.INVALID,
        "images-too-many-pixels",
        "/images/1",
    )


async def test_large_pictures_of_several_requests_wait_for_each_other(pictures: ImageReader) -> None:
    bomb = png(4500, 4500, "1")
    held = most = 0

    async def one() -> None:
        nonlocal held, most
        async with pictures.read([("/image", bomb)], Stages()):
            held += 1
            most = max(most, held)
            await asyncio.sleep(0.01)
            held -= 1

    await asyncio.gather(*(one() for _ in range(3)))
    assert most == 1


async def test_the_loop_turns_while_a_large_picture_is_decoded(pictures: ImageReader) -> None:
    large = png(4800, 4800)
    turns = 0

    async def heartbeat() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.005)
            turns += 1

    beating = asyncio.create_task(heartbeat())
    async with pictures.read([("/image", large)], Stages()):
        beating.cancel()
    assert turns >= 5


async def test_a_share_that_was_waited_for_and_left_is_free_again() -> None:
    budget = Budget(10)
    await budget.take(8)
    large = asyncio.create_task(budget.take(9))
    small = asyncio.create_task(budget.take(2))
    await asyncio.sleep(0)
    assert not small.done()  # behind the large one, although it would fit
    large.cancel()
    await asyncio.wait_for(small, 1)
    budget.give(8)
    late = asyncio.create_task(budget.take(10))
    await asyncio.sleep(0)
    budget.give(2)
    late.cancel()  # in the same moment as its share is handed out
    with pytest.raises(asyncio.CancelledError):
        await late
    await asyncio.wait_for(budget.take(10), 1)
    with pytest.raises(ValueError, match="11 of 10"):
        await budget.take(11)
