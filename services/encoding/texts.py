"""Texts to embeddings through a backend: sorted by length, in batches, kept by content."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator, Sequence

import numpy as np
import orjson
from numpy.typing import NDArray

from services.encoding.cache import Array, ArrayCache
from services.errors import Kind, Problem
from services.runtime.protocol import ModelHandle, Options, as_float32
from services.stages import Stages
from services.text.tokenizer import Tokenizer, Tokens, not_unicode

_BATCHES_AT_ONCE = 2
"""One runs while the next is queued; more would only push other requests out of the queue."""

_KEPT_TOGETHER = 256
"""Texts of one entry of the cache: some seconds of work, on a slow machine."""

_INLINE_CHARS = 4_000
"""Texts of more characters than this together are tokenised in a thread."""


class TextEncoder:
    """Embeds texts with one version of a model whose card has ``text`` and ``embedding``.

    With a ``cache`` lists of texts are kept, by the files of the version and the texts themselves: meant for the
    texts of label sets. Long ones are kept in pieces, so that a list that takes longer than one request's deadline
    is done after a few. Leave it out for texts that are never seen again.
    """

    def __init__(self, model: ModelHandle, cache: ArrayCache | None = None) -> None:
        self._model = model
        self._cache = cache
        self._tokenizer: Tokenizer | None = None
        self._reading = asyncio.Lock()
        self._fingerprint = fingerprint(model)

    async def encode(
        self, texts: Sequence[str], options: Options | None = None, stages: Stages | None = None
    ) -> NDArray[np.float32]:
        """``(N, D) float32``, one row a text in the order given, as the model puts them out; read-only when cached.

        Raises :class:`Problem`: ``no-texts``, ``text-not-unicode``, ``model-embeds-no-text``, or what the backend
        raises.
        """
        if not texts:
            raise _no_texts()

        options, stages = options or Options(), stages or Stages()
        tokenizer = await self.tokenizer()
        if self._cache is None:
            return await self._compute(tokenizer, texts, options, stages)

        pieces = [texts[begin : begin + _KEPT_TOGETHER] for begin in range(0, len(texts), _KEPT_TOGETHER)]
        rows = [await self._kept(self._cache, tokenizer, piece, options, stages) for piece in pieces]
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    async def tokenize(self, texts: Sequence[str]) -> Tokens:
        """``texts`` as the model sees them, and which were cut: for usage figures, and for :meth:`embed`.

        Raises ``no-texts``, ``text-not-unicode``, ``model-embeds-no-text``.
        """
        if not texts:
            raise _no_texts()
        return await _tokens(await self.tokenizer(), texts)

    async def embed(self, tokens: Tokens, options: Options, stages: Stages) -> NDArray[np.float32]:
        """``(N, D) float32`` of texts that are tokenised already; nothing is kept. Raises what the backend raises."""
        return await self._run(await self.tokenizer(), tokens, options, stages)

    async def tokenizer(self) -> Tokenizer:
        """The tokenizer of the version, read when it is first needed, in a thread."""
        card = self._model.card
        if card.text is None or card.embedding is None:
            raise Problem(
                Kind.INVALID,
                "model-embeds-no-text",
                "Model does not embed texts",
                f"Model {card.name!r} takes no text or puts out no embedding.",
                pointer="/model",
                remedy="Choose a model of task embed-text or embed.",
            )

        if self._tokenizer is None:
            async with self._reading:
                if self._tokenizer is None:
                    self._tokenizer = await asyncio.to_thread(Tokenizer, self._model.folder, card.text)

        return self._tokenizer

    async def _kept(
        self, cache: ArrayCache, tokenizer: Tokenizer, texts: Sequence[str], options: Options, stages: Stages
    ) -> Array:
        ran = False

        async def compute() -> Array:
            nonlocal ran
            ran = True
            return await self._compute(tokenizer, texts, options, stages)

        begin = time.perf_counter()
        embeddings = await cache.get(_key(self._fingerprint, texts), compute, deadline=options.deadline)
        if not ran:  # another request computed it: what this one did was wait
            stages.queue += time.perf_counter() - begin
        return embeddings

    async def _compute(self, tokenizer: Tokenizer, texts: Sequence[str], options: Options, stages: Stages) -> Array:
        with stages.decoding():
            tokens = await _tokens(tokenizer, texts)
        return await self._run(tokenizer, tokens, options, stages)

    async def _run(self, tokenizer: Tokenizer, tokens: Tokens, options: Options, stages: Stages) -> Array:
        rows = tokens.ids
        most = self._model.card.batching.max_batch_size
        batches = _by_length(rows, most)
        parts: list[tuple[list[int], Array]] = []

        async def work() -> None:
            for indices in batches:  # shared: each worker takes the next batch that nobody has
                parts.append((indices, await self._infer(tokenizer, [rows[i] for i in indices], options, stages)))

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

    async def _infer(self, tokenizer: Tokenizer, rows: list[list[int]], options: Options, stages: Stages) -> Array:
        card = self._model.card
        types = {spec.name: spec.datatype for spec in card.inputs}
        inputs = {
            name: array.astype(np.int32) if types.get(name) == "INT32" else array
            for name, array in tokenizer.pack(rows).items()
        }
        output = card.embedding or ""
        inference = await self._model.infer(inputs, (output,), options)
        stages.ran(inference)
        return as_float32(inference.outputs[output])


def fingerprint(model: ModelHandle) -> str:
    """A hash of what the embeddings of a version are computed from: its files, and how its card says to use them."""
    card = model.card
    text = None if card.text is None else card.text.model_dump()
    # A card without files was written by hand: its name and version are all that is known of what it stands for.
    content = sorted(card.files.items()) or [(card.name, card.version)]
    return hashlib.blake2b(orjson.dumps([content, text, card.embedding]), digest_size=16).hexdigest()


def _no_texts() -> Problem:
    return Problem(Kind.INVALID, "no-texts", "No text", "The list of texts is empty.")


async def _tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> Tokens:
    if sum(map(len, texts)) <= _INLINE_CHARS:
        return tokenizer.tokenize(texts)
    return await asyncio.to_thread(tokenizer.tokenize, texts)


def _by_length(rows: list[list[int]], most: int) -> Iterator[list[int]]:
    """Indices of ``rows`` in batches of at most ``most``, longest first, so that little is padded."""
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
    return iter([order[begin : begin + most] for begin in range(0, len(order), most)])


def _key(fingerprint: str, texts: Sequence[str]) -> tuple[str, bytes]:
    try:
        content = orjson.dumps(list(texts))
    except orjson.JSONEncodeError:
        raise not_unicode() from None
    return fingerprint, hashlib.blake2b(content, digest_size=32).digest()
