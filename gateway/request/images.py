"""Decodes the images of a request: small ones on the event loop, where that is cheapest, large ones in threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from gateway.request.admission import Budget
from gateway.request.references import References, SentImages
from services.errors import Kind, Problem
from services.media.formats import Container, read_container
from services.media.image import Picture, decode_picture
from services.media.intake import Limits, decode_base64
from services.stages import Stages

A = TypeVar("A")
T = TypeVar("T")

INLINE_PIXELS = 1_000_000
"""What is decoded on the event loop in one request: about 15 ms."""

_INLINE_BYTES = 512 * 1024
"""Encoded images that are looked into on the loop: even the most awkward of this size takes milliseconds."""


class ImageReader:
    """Reads the images of requests.

    ``limits`` are those of one image, ``pixels`` of all that are decoded at once, in one request or in several: one
    takes 4 bytes a pixel. ``threads`` decode the large ones.
    """

    def __init__(self, limits: Limits, references: References, *, pixels: int, threads: int) -> None:
        self._limits = limits
        self._references = references
        self._budget = Budget(max(pixels, limits.max_pixels))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def read(
        self,
        images: SentImages,
        stages: Stages,
        *,
        owner: str = "",
        deadline: float | None = None,
        admit: Callable[[int], None] = lambda pixels: None,
    ) -> AsyncIterator[list[Picture]]:
        """The decoded images in order, for as long as the block lasts; the time it takes goes to ``stages``.

        ``owner`` and ``deadline`` are for images that are named instead of sent, see :class:`References`. ``admit`` is
        told how many pixels there are, as their headers say, before any is decoded, and may refuse them.
        Raises what is wrong with an image, pointing at where it stood in the request; ``images-too-many-pixels``.
        """
        begin = time.perf_counter()
        async with self._references.followed(images, owner, deadline) as sent:
            containers = [await self._look_into(pointer, image) for pointer, image in sent]
            pixels = self._pixels(sent, containers)
            admit(pixels)

            # Small images come and go within one turn of the loop; only what stays longer is counted.
            counted = pixels if pixels > INLINE_PIXELS else 0
            looked = time.perf_counter()
            await self._budget.take(counted)
            waited = time.perf_counter() - looked

            try:
                decoded = []
                for (pointer, _), container in zip(sent, containers, strict=True):
                    try:
                        image = await self._run(decode_picture, container) if counted else decode_picture(container)
                    except Problem as problem:
                        raise problem.at(pointer) from None
                    decoded.append(image)
                stages.queue += waited
                stages.decode += time.perf_counter() - begin - waited
                yield decoded
            finally:
                self._budget.give(counted)

    def _pixels(self, images: SentImages, containers: Sequence[Container]) -> int:
        total = 0
        for (pointer, _), container in zip(images, containers, strict=True):
            total += container.width * container.height
            if total > self._budget.total:
                raise _too_many(self._budget.total).at(pointer)
        return total

    async def _look_into(self, pointer: str, image: str | bytes) -> Container:
        try:
            if len(image) <= _INLINE_BYTES:
                return self._container(image)
            return await self._run(self._container, image)
        except Problem as problem:
            raise problem.at(pointer) from None

    def _container(self, image: str | bytes) -> Container:
        data = decode_base64(image, self._limits) if isinstance(image, str) else image
        self._limits.check_bytes(len(data))
        return read_container(data, self._limits)

    async def _run(self, work: Callable[[A], T], argument: A) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, argument)


def _too_many(limit: int) -> Problem:
    return Problem(
        Kind.INVALID,
        "images-too-many-pixels",
        "The images have too many pixels together",
        f"Up to this image there are more than {limit:,} pixels in the request.",
        remedy="Send several requests, or scale the images down.",
    )
