"""``client.detect`` and ``client.ground``: where things are on images."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import httpx

from sightline.client.halves import N, call
from sightline.client.images import ImageLike, as_text, as_texts
from sightline.client.resource import Json, Resource, json_of, timings

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the image as displayed."""

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Example:
    """A box of ``image`` that shows ``label``; without an image, of the one that is asked about."""

    label: str
    box: Box
    image: ImageLike | None = None


@dataclass(frozen=True, slots=True)
class Detection:
    """One thing that was found, its score 0 to 1."""

    label: str
    score: float
    box: Box


@dataclass(frozen=True, slots=True)
class DetectedImage:
    """One image's detections, best first. ``presence``: how likely each label is in the image at all.

    ``rendered``: the bytes of a JPEG or PNG with the boxes drawn in, when asked for.
    """

    index: int
    width: int
    height: int
    detections: tuple[Detection, ...]
    presence: Mapping[str, float]
    rendered: bytes | None = None


@dataclass(frozen=True, slots=True)
class PhraseBox:
    """Where a phrase may be, its score 0 to 1."""

    box: Box
    score: float


@dataclass(frozen=True, slots=True)
class Phrase:
    """``text`` is ``caption[span[0]:span[1]]``; ``boxes`` best first; ``presence``: how likely it is there at all."""

    text: str
    span: tuple[int, int]
    boxes: tuple[PhraseBox, ...]
    presence: float


@dataclass(frozen=True, slots=True)
class GroundedImage:
    """One image's caption and its phrases in order. ``rendered`` as of :class:`DetectedImage`."""

    index: int
    width: int
    height: int
    caption: str
    phrases: tuple[Phrase, ...]
    rendered: bytes | None = None


@dataclass(frozen=True, slots=True)
class Detections(Generic[R]):
    """The answer of ``detect`` or ``ground``: one result an image, in the order sent.

    ``usage`` says what was looked at; ``timings`` are milliseconds by stage, as the platform measured them.
    """

    model: str
    version: str
    results: tuple[R, ...]
    usage: Mapping[str, int] = field(default_factory=dict)
    request_id: str = ""
    timings: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[R]:
        return iter(self.results)

    def __getitem__(self, index: int) -> R:
        return self.results[index]


class Detect(Resource[N]):
    @call
    async def detect(
        self,
        images: ImageLike | Sequence[ImageLike],
        labels: Sequence[str] | None = None,
        *,
        label_set: str | None = None,
        labels_per_image: Sequence[Sequence[str]] | None = None,
        negative_labels: Sequence[str] | None = None,
        examples: Sequence[Example] | None = None,
        threshold: float | None = None,
        max_detections: int | None = None,
        nms_iou: float | None = None,
        render: bool | None = None,
        model: str | None = None,
    ) -> Detections[DetectedImage]:
        """Where the things that ``labels`` name, or that ``examples`` show, are on each image.

        A closed-set model needs neither.

        >>> client = Client()
        >>> answer = client.detect("cat.jpg", ["cat", "zebra"], threshold=0.5)
        >>> [found.label for found in answer[0].detections]
        ['cat']
        """
        body = {
            "model": model,
            # Files are read and images encoded aside: other tasks go on.
            "images": await self._network.compute(lambda: as_texts(images)),
            "labels": None if labels is None else list(labels),
            "label_set": label_set,
            "labels_per_image": None if labels_per_image is None else [list(some) for some in labels_per_image],
            "negative_labels": None if negative_labels is None else list(negative_labels),
            "examples": None if examples is None else await self._network.compute(lambda: _examples(examples)),
            "threshold": threshold,
            "max_detections": max_detections,
            "nms_iou": nms_iou,
            "render": render,
        }
        return await self._ask("POST", "/v1/detect", _detections, body=body)

    @call
    async def ground(
        self,
        images: ImageLike | Sequence[ImageLike],
        caption: str | Sequence[str],
        *,
        phrases: Sequence[str] | None = None,
        threshold: float | None = None,
        max_detections: int | None = None,
        nms_iou: float | None = None,
        render: bool | None = None,
        model: str | None = None,
    ) -> Detections[GroundedImage]:
        """Where the ``phrases`` of a caption, its noun phrases when absent, are on each image.

        One ``caption`` is that of every image; a sequence has one for each.

        >>> client = Client()
        >>> answer = client.ground("cat.jpg", "a tabby cat and a zebra")
        >>> [(phrase.text, phrase.span, len(phrase.boxes) > 0) for phrase in answer[0].phrases]
        [('a tabby cat', (0, 11), True), ('a zebra', (16, 23), False)]
        """
        one = isinstance(caption, str)
        body = {
            "model": model,
            "images": await self._network.compute(lambda: as_texts(images)),
            "caption": caption if one else None,
            "captions": None if one else list(caption),
            "phrases": None if phrases is None else list(phrases),
            "threshold": threshold,
            "max_detections": max_detections,
            "nms_iou": nms_iou,
            "render": render,
        }
        return await self._ask("POST", "/v1/ground", _groundings, body=body)


def _examples(examples: Sequence[Example]) -> list[Json]:
    return [
        {
            "label": example.label,
            "image": None if example.image is None else as_text(example.image),
            "box": list(example.box),
        }
        for example in examples
    ]


def _detections(response: httpx.Response) -> Detections[DetectedImage]:
    body = json_of(response)
    return _answer(response, body, tuple(_detected(entry) for entry in body["results"]))


def _groundings(response: httpx.Response) -> Detections[GroundedImage]:
    body = json_of(response)
    return _answer(response, body, tuple(_grounded(entry) for entry in body["results"]))


def _answer(response: httpx.Response, body: Json, results: tuple[R, ...]) -> Detections[R]:
    return Detections(
        model=body["model"],
        version=body["version"],
        results=results,
        usage=body.get("usage", {}),
        request_id=response.headers.get("x-request-id", ""),
        timings=timings(response),
    )


def _detected(entry: Json) -> DetectedImage:
    return DetectedImage(
        index=entry["index"],
        width=entry["width"],
        height=entry["height"],
        detections=tuple(Detection(one["label"], one["score"], _box(one["box"])) for one in entry["detections"]),
        presence={one["label"]: one["score"] for one in entry["presence"]},
        rendered=_file(entry.get("rendered")),
    )


def _grounded(entry: Json) -> GroundedImage:
    return GroundedImage(
        index=entry["index"],
        width=entry["width"],
        height=entry["height"],
        caption=entry["caption"],
        phrases=tuple(_phrase(one) for one in entry["phrases"]),
        rendered=_file(entry.get("rendered")),
    )


def _phrase(entry: Json) -> Phrase:
    begin, end = entry["span"]
    boxes = tuple(PhraseBox(_box(one["box"]), one["score"]) for one in entry["boxes"])
    return Phrase(entry["text"], (begin, end), boxes, entry["presence"])


def _box(edges: Sequence[float]) -> Box:
    left, top, right, bottom = edges
    return left, top, right, bottom


def _file(uri: str | None) -> bytes | None:
    return None if uri is None else base64.b64decode(uri.partition(",")[2])
