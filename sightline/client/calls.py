"""Each call as a value: what to send, and how to read the answer. Both clients send the same ones."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote

import httpx
import orjson

from sightline.client import images as pictures
from sightline.client.errors import APIError, SightlineError
from sightline.client.images import ImageLike
from sightline.client.results import Classification, ClassifiedImage, Embeddings, Explanation, Model, Prediction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request. ``read`` turns the body of a successful answer into the result."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    body: Mapping[str, object] | None = None
    headers: Mapping[str, str] | None = None

    def content(self) -> bytes | None:
        """The body without the fields that are ``None``: those are for the platform to choose."""
        if self.body is None:
            return None
        return orjson.dumps({name: value for name, value in self.body.items() if value is not None})


def classify(
    images: ImageLike | Sequence[ImageLike],
    labels: Sequence[str] | None,
    *,
    label_set: str | None,
    templates: Sequence[str] | None,
    template_set: str | None,
    top_k: int | None,
    multi_label: bool | None,
    threshold: float | None,
    explain: bool | None,
    model: str | None,
) -> Call[Classification]:
    body = {
        "model": model,
        "images": [pictures.as_text(image) for image in pictures.as_list(images)],
        "labels": None if labels is None else list(labels),
        "label_set": label_set,
        "templates": None if templates is None else list(templates),
        "template_set": template_set,
        "top_k": top_k,
        "multi_label": multi_label,
        "threshold": threshold,
        "explain": explain,
    }
    return Call("POST", "/v1/classify", _classification, body)


def embed(
    texts: str | Sequence[str] | None,
    *,
    images: ImageLike | Sequence[ImageLike] | None,
    dimensions: int | None,
    model: str | None,
) -> Call[Embeddings]:
    if (texts is None) == (images is None):
        raise SightlineError("embed takes either texts or images")
    body = {
        "model": model,
        "input": [texts] if isinstance(texts, str) else None if texts is None else list(texts),
        "images": None if images is None else [pictures.as_text(image) for image in pictures.as_list(images)],
        "dimensions": dimensions,
        "encoding_format": "base64",
    }
    return Call("POST", "/v1/embeddings", _embeddings, body)


def models() -> Call[list[Model]]:
    return Call("GET", "/v1/models", lambda response: [_model(entry) for entry in _json(response)["data"]])


def model(name: str) -> Call[Model]:
    return Call("GET", f"/v1/models/{quote(name, safe='')}", lambda response: _model(_json(response)))


def result(call: Call[T], response: httpx.Response) -> T:
    """What a successful answer says; raises :class:`APIError` when it is not the platform's."""
    try:
        return call.read(response)
    except (ValueError, KeyError, TypeError) as error:
        detail = f"{response.url} answered something else than this client expects."
        raise APIError(response.status_code, "answer-unexpected", "The answer makes no sense", detail) from error


def _json(response: httpx.Response) -> Any:
    return orjson.loads(response.content)


def _timings(response: httpx.Response) -> dict[str, float]:
    """``Server-Timing: decode;dur=1.5, queue;dur=0`` as milliseconds by name."""
    found = {}
    for part in response.headers.get("server-timing", "").split(","):
        name, _, duration = part.strip().partition(";dur=")
        if duration:
            found[name] = float(duration)
    return found


def _classification(response: httpx.Response) -> Classification:
    body = _json(response)
    results = tuple(
        ClassifiedImage(
            index=entry["index"],
            width=entry["width"],
            height=entry["height"],
            predictions=tuple(Prediction(p["label"], p["score"]) for p in entry["predictions"]),
            none_of_these=entry.get("none_of_these"),
            explanation=_explanation(entry.get("explanation")),
        )
        for entry in body["results"]
    )
    return Classification(
        body["model"], body["version"], results, response.headers.get("x-request-id", ""), _timings(response)
    )


def _explanation(entry: Mapping[str, str] | None) -> Explanation | None:
    if entry is None:
        return None
    return Explanation(base64.b64decode(entry["image"].partition(",")[2]), entry["method"])


def _embeddings(response: httpx.Response) -> Embeddings:
    import numpy as np

    body = _json(response)
    rows: list[NDArray[np.float32]] = [
        np.frombuffer(base64.b64decode(entry["embedding"]), dtype="<f4").astype(np.float32)
        for entry in sorted(body["data"], key=lambda entry: entry["index"])
    ]
    return Embeddings(body["model"], np.stack(rows), response.headers.get("x-request-id", ""), _timings(response))


def _model(entry: Mapping[str, Any]) -> Model:
    return Model(
        name=entry["id"],
        task=entry.get("task") or "",
        version=str(entry.get("version") or ""),
        state=entry.get("state") or "",
        runtime=entry.get("runtime") or "",
        card=entry.get("card") or {},
    )
