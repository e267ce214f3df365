"""Label sets to one row a label: kept in memory and, where they took long, on disk, by what they are computed from."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import orjson

from services.encoding.cache import Array, ArrayCache
from services.encoding.disk_cache import DiskCache
from services.encoding.images import unit
from services.encoding.templates import fill
from services.encoding.texts import TextEncoder, fingerprint
from services.errors import Kind, Problem
from services.runtime.protocol import ModelHandle, Options
from services.settings import Settings
from services.stages import Stages

KEPT_ON_DISK = 256
"""Texts (labels times templates) from which on class rows are kept on disk: fewer are sooner computed than worth it."""

PART_TEXTS = 256
"""Texts whose rows are kept while the others of a label set are still to come, a few seconds of a large text tower: a
request that runs out of time leaves the parts it had finished to the next."""

_INLINE_TEXTS = 500
"""More texts are filled in and averaged in a thread."""

Compute = Callable[[Sequence[str]], Awaitable[Array]]


class ClassRows:
    """Rows of label sets, for one event loop: those of many texts also for the other processes and the next start.

    Within ``settings.text_cache_bytes`` in memory and ``settings.text_disk_cache_bytes`` on disk. ``texts`` is where
    text encoders keep the embeddings that rows are made of, within the same bound.
    """

    def __init__(self, settings: Settings) -> None:
        self.texts = ArrayCache(settings.text_cache_bytes)
        self._disk = DiskCache(settings.cache_dir / "class-rows", settings.text_disk_cache_bytes)

    async def get(
        self,
        source: str,
        labels: tuple[str, ...],
        templates: tuple[str, ...],
        compute: Compute,
        deadline: float | None,
    ) -> Array:
        """``(C, K)`` of ``labels``: by ``compute``, part by part where they are many, unless they are kept.

        ``source`` says what they are computed from: :func:`source_of`. Raises what ``compute`` raises, and
        ``deadline-exceeded``.
        """
        whole = _digest(source, labels, templates)

        async def compute_all() -> Array:
            if len(labels) * len(templates) < KEPT_ON_DISK:
                return await compute(labels)
            rows = await self._from_disk(whole, len(labels))
            return rows if rows is not None else await build()

        async def build() -> Array:
            step = max(1, PART_TEXTS // len(templates))
            pieces = [labels[start : start + step] for start in range(0, len(labels), step)]
            parts = {_digest(source, piece, templates): piece for piece in pieces}
            rows = np.concatenate([await build_part(key, piece) for key, piece in parts.items()])
            await asyncio.to_thread(self._disk.join, whole, rows, parts)
            return rows

        async def build_part(key: str, piece: tuple[str, ...]) -> Array:
            rows = await self._from_disk(key, len(piece))
            if rows is None:
                rows = await compute(piece)
                await asyncio.to_thread(self._disk.keep, key, rows)
            return rows

        try:
            return await self.texts.get(whole, compute_all, deadline=deadline)
        except Problem as problem:
            # Out of time, or refused because the rest would take longer than there is.
            if problem.kind in (Kind.DEADLINE, Kind.TOO_MANY) and len(labels) * len(templates) > PART_TEXTS:
                problem.remedy = "Ask again: what was embedded of the label set so far is kept, and the rest is less."
            raise

    async def _from_disk(self, key: str, count: int) -> Array | None:
        rows = await asyncio.to_thread(self._disk.load, key)
        return None if rows is None or len(rows) != count else rows


def source_of(model: ModelHandle) -> str:
    """A hash of all that rows of ``model`` are computed from: its own files and data, and the files of its parts."""
    pipeline = model.card.pipeline
    if pipeline is None:
        return fingerprint(model)
    own = [pipeline.kind, pipeline.parameters, sorted(model.card.files.items())]
    parts = {role: fingerprint(part) for role, part in sorted(model.parts.items())}
    return hashlib.blake2b(orjson.dumps([own, parts]), digest_size=16).hexdigest()


async def text_rows(
    encoder: TextEncoder, labels: Sequence[str], templates: Sequence[str], options: Options, stages: Stages
) -> Array:
    """``(C, D)``: the mean over templates of a label's unit text embeddings, made unit again.

    Section 3.1.4 of arXiv 2103.00020.
    """
    many = len(labels) * len(templates) > _INLINE_TEXTS
    texts = await asyncio.to_thread(_texts, labels, templates) if many else _texts(labels, templates)
    embedded = await encoder.encode(texts, options, stages)
    if many:
        return await asyncio.to_thread(_mean, embedded, len(templates))
    return _mean(embedded, len(templates))


def _texts(labels: Sequence[str], templates: Sequence[str]) -> list[str]:
    return [text for own in fill(labels, templates) for text in own]


def _mean(embedded: Array, templates: int) -> Array:
    rows = unit(embedded)
    return unit(rows.reshape(len(rows) // templates, templates, -1).mean(axis=1))


def _digest(source: str, labels: Sequence[str], templates: Sequence[str]) -> str:
    return hashlib.blake2b(orjson.dumps([source, labels, templates]), digest_size=16).hexdigest()
