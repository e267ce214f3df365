"""Images that a request names instead of sending: addresses of the internet, and artifacts of the caller's own.

A reference of thirty bytes stands for megabytes: what a request may bring in this way is bounded as its body is, and
what all requests hold of it, too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from gateway.request.admission import Budget
from services.errors import Kind, Problem
from services.media.intake import Limits
from services.media.remote import RemoteImages
from services.runtime.problems import deadline_exceeded
from services.storage.artifacts import ArtifactStore

_ARTIFACT = "artifact:"
_SCHEMES = ("https:", "http:", _ARTIFACT)

SentImages = Sequence[tuple[str, str | bytes]]
"""Where each image stands in the request, and its text or its bytes."""


class References:
    """``limits`` are those of one image; ``per_request`` bytes may one request name, ``held`` all together."""

    def __init__(
        self, limits: Limits, remote: RemoteImages, artifacts: ArtifactStore, *, per_request: int, held: int
    ) -> None:
        self._limits = limits
        self._remote = remote
        self._artifacts = artifacts
        self._per_request = per_request
        self._budget = Budget(max(held, per_request))

    @asynccontextmanager
    async def followed(self, images: SentImages, owner: str, deadline: float | None) -> AsyncIterator[SentImages]:
        """``images`` with the bytes of those that are references, for as long as the block lasts.

        ``owner`` is the id of the key whose artifacts may be read; ``deadline`` is on the clock of
        ``time.perf_counter()``. Raises what :meth:`RemoteImages.fetch` and the artifact store raise, pointing at the
        reference; ``images-too-large`` and ``deadline-exceeded``.
        """
        named = sum(_is_reference(image) for _, image in images)
        if not named:
            yield images
            return

        share = min(named * self._limits.max_bytes, self._per_request)
        left = None if deadline is None else max(0.0, deadline - time.perf_counter())
        taken = False
        try:
            try:
                async with asyncio.timeout(left):
                    await self._budget.take(share)
                    taken = True
                    found = await self._all(images, owner)
            except TimeoutError:
                raise deadline_exceeded() from None
            yield found
        finally:
            if taken:
                self._budget.give(share)

    async def _all(self, images: SentImages, owner: str) -> SentImages:
        found: list[tuple[str, str | bytes]] = []
        total = 0
        for pointer, image in images:
            if isinstance(image, str) and _is_reference(image):
                try:
                    image = await self._one(image, owner)
                except Problem as problem:
                    raise problem.at(pointer) from None
                total += len(image)
                if total > self._per_request:
                    raise _too_large(self._per_request).at(pointer)
            found.append((pointer, image))
        return found

    async def _one(self, reference: str, owner: str) -> bytes:
        if reference[: len(_ARTIFACT)].lower() == _ARTIFACT:
            return await asyncio.to_thread(self._stored, reference[len(_ARTIFACT) :], owner)
        return await self._remote.fetch(reference)

    def _stored(self, artifact_id: str, owner: str) -> bytes:
        artifact = self._artifacts.get(owner, artifact_id)
        self._limits.check_bytes(artifact.size)
        return b"".join(self._artifacts.read(artifact))


def _is_reference(image: str | bytes) -> bool:
    return isinstance(image, str) and image[: len(_ARTIFACT)].lower().startswith(_SCHEMES)


def _too_large(limit: int) -> Problem:
    return Problem(
        Kind.TOO_LARGE,
        "images-too-large",
        "The images are too large together",
        f"Up to this image there are more than {limit:,} bytes in what the request names.",
        remedy="Send several requests.",
    )
