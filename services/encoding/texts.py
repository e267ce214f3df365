"""Texts to embeddings through a backend: sorted by length, in batches, kept by content."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

from models.catalog.card import Card
from services.encoding.cache import Array, ArrayCache
from services.errors import Kind, Problem
from services.runtime.protocol import Backend, Options, as_float32
from services.stages import Stages
from services.text.tokenizer import Tokenizer, not_unicode

_BATCHES_AT_ONCE = 2
"""One runs while the next is queued; more would only push other requests out of the queue."""

_KEPT_TOGETHER = 256
"""Texts of one entry of the cache: some seconds of work, on a slow machine."""

_INLINE_CHARS = 4_000
"""Texts of more characters than this together are tokenised in a thread."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A version of the model as it was when its tokenizer was read."""

    card: Card
    tokenizer: Tokenizer
    fingerprint: str


class TextEncoder:
    """Embeds texts with ``model``, any model whose card has ``text`` and ``embedding``.

    With a ``cache`` lists of texts are kept, by model, version, its files and the texts themselves: meant for the
    texts of label sets. Long ones are kept in pieces, so that a list that takes longer than one request's deadline
    is done after a few. Leave it out for texts that are never seen again.
    """

    def __init__(self, backend: Backend, model: str, cache: ArrayCache | None = None) -> None:
        self._backend = backend
        self._model = model
        self._cache = cache
        self._loaded: _Loaded | None = None
        self._loading = asyncio.Lock()

    async def encode(
        self, texts: Sequence[str], options: Options | None = None, stages: Stages | None = None
    ) -> NDArray[np.float32]:
        """``(N, D) float32``, one row a text in the order given, as the model puts them out; read-only when cached.

        Raises :class:`Problem`: ``no-texts``, ``text-not-unicode``, ``model-embeds-no-text``, or what the backend
        raises.
        """
        if not texts:
            raise Problem(Kind.INVALID, "no-texts", "No text", "The list of texts is empty.")
        options, stages = options or Options(), stages or Stages()
        loaded = await self._load()
        try:
            return await self._encode(loaded, texts, options, stages)
        except Problem as problem:
            # A newer version took over on the way and the one begun with is gone: start again on that one.
            if problem.kind not in (Kind.NOT_FOUND, Kind.UNAVAILABLE) or (now := await self._load()) is loaded:
                raise
            return await self._encode(now, texts, options, stages)

    async def count(self, texts: Sequence[str]) -> int:
        """Tokens that the model sees of ``texts``, for usage figures."""
        loaded = await self._load()
        return sum(len(row) for row in await self._ids(loaded, texts))

    async def _load(self) -> _Loaded:
        """The tokenizer of the version that is ready now; read anew when the model was loaded anew."""
        card = self._backend.card(self._model)
        if self._loaded is None or not _same(self._loaded.card, card):
            async with self._loading:
                if self._loaded is None or not _same(self._loaded.card, card):
                    self._loaded = await self._read(card)
        return self._loaded

    async def _read(self, card: Card) -> _Loaded:
        if card.text is None or card.embedding is None:
            raise Problem(
                Kind.INVALID,
                "model-embeds-no-text",
                "Model does not embed texts",
                f"Model {card.name!r} takes no text or puts out no embedding.",
                pointer="/model",
                remedy="Choose a model of task embed-text or embed.",
            )
        folder = self._backend.folder(self._model, card.version)
        tokenizer = await asyncio.to_thread(Tokenizer, folder, card.text)
        described = orjson.dumps([card.name, card.version, card.text.model_dump(), sorted(card.files.items())])
        return _Loaded(card, tokenizer, hashlib.blake2b(described, digest_size=16).hexdigest())

    async def _ids(self, loaded: _Loaded, texts: Sequence[str]) -> list[list[int]]:
        if sum(map(len, texts)) <= _INLINE_CHARS:
            return loaded.tokenizer.ids(texts)
        return await asyncio.to_thread(loaded.tokenizer.ids, texts)

    async def _encode(self, loaded: _Loaded, texts: Sequence[str], options: Options, stages: Stages) -> Array:
        if self._cache is None:
            return await self._run(loaded, texts, options, stages)
        pieces = [texts[begin : begin + _KEPT_TOGETHER] for begin in range(0, len(texts), _KEPT_TOGETHER)]
        rows = [await self._kept(self._cache, loaded, piece, options, stages) for piece in pieces]
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    async def _kept(
        self, cache: ArrayCache, loaded: _Loaded, texts: Sequence[str], options: Options, stages: Stages
    ) -> Array:
        ran = False

        async def compute() -> Array:
            nonlocal ran
            ran = True
            return await self._run(loaded, texts, options, stages)

        begin = time.perf_counter()
        embeddings = await cache.get(_key(loaded, texts), compute, deadline=options.deadline)
        if not ran:  # another request computed it: what this one did was wait
            stages.queue += time.perf_counter() - begin
        return embeddings

    async def _run(self, loaded: _Loaded, texts: Sequence[str], options: Options, stages: Stages) -> Array:
        with stages.decoding():
            rows = await self._ids(loaded, texts)
        most = loaded.card.batching.max_batch_size
        batches = _by_length(rows, most)
        parts: list[tuple[list[int], Array]] = []

        async def work() -> None:
            for indices in batches:  # shared: each worker takes the next batch that nobody has
                parts.append((indices, await self._infer(loaded, [rows[i] for i in indices], options, stages)))

        if len(rows) <= most:
            await work()
        else:
            workers = [asyncio.create_task(work()) for _ in range(_BATCHES_AT_ONCE)]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
        embeddings = np.empty((len(rows), parts[0][1].shape[1]), np.float32)
        for indices, part in parts:
            embeddings[indices] = part
        return embeddings

    async def _infer(self, loaded: _Loaded, rows: list[list[int]], options: Options, stages: Stages) -> Array:
        card = loaded.card
        types = {spec.name: spec.datatype for spec in card.inputs}
        inputs = {
            name: array.astype(np.int32) if types.get(name) == "INT32" else array
            for name, array in loaded.tokenizer.pack(rows).items()
        }
        output = card.embedding or ""
        inference = await self._backend.infer(
            self._model, inputs, version=card.version, outputs=(output,), options=options
        )
        stages.ran(inference)
        return as_float32(inference.outputs[output])


def _same(one: Card, other: Card) -> bool:
    return one is other or one == other


def _by_length(rows: list[list[int]], most: int) -> Iterator[list[int]]:
    """Indices of ``rows`` in batches of at most ``most``, longest first, so that little is padded."""
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
    return iter([order[begin : begin + most] for begin in range(0, len(order), most)])


def _key(loaded: _Loaded, texts: Sequence[str]) -> tuple[str, str, str, bytes]:
    try:
        content = orjson.dumps(list(texts))
    except orjson.JSONEncodeError:
        raise not_unicode() from None
    digest = hashlib.blake2b(content, digest_size=32).digest()
    return loaded.card.name, loaded.card.version, loaded.fingerprint, digest
