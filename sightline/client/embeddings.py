"""``client.embed``: texts or images as vectors."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from sightline.client.errors import SightlineError
from sightline.client.halves import N, call
from sightline.client.images import ImageLike, as_texts
from sightline.client.reading import Note, Truncated, notes_of, truncated_of
from sightline.client.resource import Resource, json_of, timings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """The answer of ``embed``: ``vectors`` is ``(N, D) float32``, one row an input in the order sent.

    ``tokens`` were read of texts. ``truncated`` tells of texts that were cut, ``notes`` of others that the model could
    not read.
    """

    model: str
    vectors: NDArray[np.float32]
    request_id: str = ""
    timings: Mapping[str, float] = field(default_factory=dict)
    tokens: int = 0
    truncated: tuple[Truncated, ...] = ()
    notes: tuple[Note, ...] = ()

    def __len__(self) -> int:
        return len(self.vectors)


class Embed(Resource[N]):
    @call
    async def embed(
        self,
        texts: str | Sequence[str] | None = None,
        *,
        images: ImageLike | Sequence[ImageLike] | None = None,
        dimensions: int | None = None,
        model: str | None = None,
        truncate: bool | None = None,
    ) -> Embeddings:
        """The embeddings of texts or of images, cut to ``dimensions`` where the model allows it.

        A text that is longer than the model reads is cut, and ``truncated`` of the answer says so; with
        ``truncate=False`` it is refused.

        Raises :class:`SightlineError` unless it is given one of the two.

        >>> client = Client()
        >>> answer = client.embed(["a red shoe", "a boot"])
        >>> len(answer), answer.vectors.dtype
        (2, dtype('float32'))
        """
        if (texts is None) == (images is None):
            raise SightlineError("embed takes either texts or images")

        body = {
            "model": model,
            "input": [texts] if isinstance(texts, str) else None if texts is None else list(texts),
            "images": None if images is None else await self._network.compute(lambda: as_texts(images)),
            "dimensions": dimensions,
            "encoding_format": "base64",
            "truncate": truncate,
        }
        return await self._ask("POST", "/v1/embeddings", _embeddings, body=body)


def _embeddings(response: httpx.Response) -> Embeddings:
    import numpy as np

    body = json_of(response)
    rows: list[NDArray[np.float32]] = [
        np.frombuffer(base64.b64decode(entry["embedding"]), dtype="<f4").astype(np.float32)
        for entry in sorted(body["data"], key=lambda entry: entry["index"])
    ]
    return Embeddings(
        model=body["model"],
        vectors=np.stack(rows),
        request_id=response.headers.get("x-request-id", ""),
        timings=timings(response),
        tokens=body.get("usage", {}).get("total_tokens", 0),
        truncated=truncated_of(body),
        notes=notes_of(body),
    )
