"""``client.classify``: what is on images."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import overload

import httpx

from sightline.client.halves import N, call
from sightline.client.images import ImageLike, as_texts
from sightline.client.reading import Note, Truncated, notes_of, truncated_of
from sightline.client.resource import Json, Resource, json_of, timings


@dataclass(frozen=True, slots=True)
class Prediction:
    """One label and its score, 0 to 1."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """``png``: the bytes of a heat map over the image; ``method``: how the model made it."""

    png: bytes
    method: str


@dataclass(frozen=True, slots=True)
class ClassifiedImage:
    """One image's labels, best first. ``none_of_these`` is how likely no label fits, where the model can say it.

    ``explanation`` is there when it was asked for.
    """

    index: int
    width: int
    height: int
    predictions: tuple[Prediction, ...]
    none_of_these: float | None = None
    explanation: Explanation | None = None

    @property
    def best(self) -> Prediction | None:
        """The first prediction; ``None`` when all were below the threshold."""
        return self.predictions[0] if self.predictions else None


@dataclass(frozen=True, slots=True)
class Classification:
    """The answer of ``classify``: a sequence of one :class:`ClassifiedImage` an image, in the order sent.

    ``timings`` are milliseconds by stage, as the platform measured them. ``truncated`` tells of labels that were cut,
    ``notes`` of labels that the model cannot read or not tell apart.
    """

    model: str
    version: str
    results: tuple[ClassifiedImage, ...]
    request_id: str = ""
    timings: Mapping[str, float] = field(default_factory=dict)
    truncated: tuple[Truncated, ...] = ()
    notes: tuple[Note, ...] = ()

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[ClassifiedImage]:
        return iter(self.results)

    @overload
    def __getitem__(self, index: int) -> ClassifiedImage: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ClassifiedImage, ...]: ...
    def __getitem__(self, index: int | slice) -> ClassifiedImage | tuple[ClassifiedImage, ...]:
        return self.results[index]


class Classify(Resource[N]):
    @call
    async def classify(
        self,
        images: ImageLike | Sequence[ImageLike],
        labels: Sequence[str] | None = None,
        *,
        label_set: str | None = None,
        templates: Sequence[str] | None = None,
        template_set: str | None = None,
        top_k: int | None = None,
        multi_label: bool | None = None,
        threshold: float | None = None,
        explain: bool | None = None,
        model: str | None = None,
        truncate: bool | None = None,
    ) -> Classification:
        """The labels of one or many images, best first. A closed-set model needs no ``labels``.

        A label that is longer than the model reads is cut, and ``truncated`` of the answer says so; with
        ``truncate=False`` it is refused.

        >>> client = Client()
        >>> answer = client.classify("cat.jpg", ["a cat", "a dog"])
        >>> [prediction.label for prediction in answer[0].predictions]
        ['a cat', 'a dog']
        """
        body = {
            "model": model,
            # Files are read and images encoded aside: other tasks go on.
            "images": await self._network.compute(lambda: as_texts(images)),
            "labels": None if labels is None else list(labels),
            "label_set": label_set,
            "templates": None if templates is None else list(templates),
            "template_set": template_set,
            "top_k": top_k,
            "multi_label": multi_label,
            "threshold": threshold,
            "explain": explain,
            "truncate": truncate,
        }
        return await self._ask("POST", "/v1/classify", _classification, body=body)


def _classification(response: httpx.Response) -> Classification:
    body = json_of(response)
    return Classification(
        model=body["model"],
        version=body["version"],
        results=tuple(_image(entry) for entry in body["results"]),
        request_id=response.headers.get("x-request-id", ""),
        timings=timings(response),
        truncated=truncated_of(body),
        notes=notes_of(body),
    )


def _image(entry: Json) -> ClassifiedImage:
    return ClassifiedImage(
        index=entry["index"],
        width=entry["width"],
        height=entry["height"],
        predictions=tuple(Prediction(guess["label"], guess["score"]) for guess in entry["predictions"]),
        none_of_these=entry.get("none_of_these"),
        explanation=_explanation(entry.get("explanation")),
    )


def _explanation(entry: Json | None) -> Explanation | None:
    if entry is None:
        return None
    return Explanation(base64.b64decode(entry["image"].partition(",")[2]), entry["method"])
