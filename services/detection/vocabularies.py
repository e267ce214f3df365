"""The vocabularies of a request: labels as text, as the name of a set, a list for each picture, and by example."""

from __future__ import annotations

from collections.abc import Sequence

from services.detection.answers import DetectRequest, LabelledExample
from services.detection.protocol import Example, Vocabulary
from services.encoding.labels import check_labels, named_set
from services.errors import Kind, Problem
from services.media.image import Picture
from services.settings import Settings


def vocabularies_of(request: DetectRequest, settings: Settings, own: tuple[str, ...] | None = None) -> list[Vocabulary]:
    """One for each picture; those that ask the same are one object. ``own``: labels to look for where none are named.

    Raises ``labels-*``, ``label-*`` and ``example-*``.
    """
    negatives = _negatives(request, settings)
    if request.labels_per_picture is not None:
        lists = _per_picture(request, settings)
    else:
        labels = _labels(request, settings)
        if labels is None and not request.examples:
            labels = own
        if labels is None and not request.examples:
            raise Problem(
                Kind.INVALID,
                "labels-missing",
                "The model needs labels",
                "An open-vocabulary detector is told what to look for.",
                pointer="/labels",
                remedy='Send labels, for instance ["person", "red car"], name a label_set, or send examples.',
            )
        lists = [labels or ()] * len(request.pictures)

    made: dict[tuple[str, ...], Vocabulary] = {}
    asked = []
    for picture, labels in zip(request.pictures, lists, strict=True):
        vocabulary = made.get(labels)
        if vocabulary is None:
            vocabulary = made[labels] = _vocabulary(labels, negatives, request.examples, picture, settings)
        asked.append(vocabulary)
    return asked


def _vocabulary(
    labels: tuple[str, ...],
    negatives: tuple[str, ...],
    examples: Sequence[LabelledExample],
    picture: Picture,
    settings: Settings,
) -> Vocabulary:
    by_example = dict.fromkeys(example.label.strip() for example in examples)
    columns = (*labels, *(label for label in by_example if label not in set(labels)))
    if len(columns) > settings.max_labels:
        raise Problem(
            Kind.INVALID,
            "labels-too-many",
            "There are too many labels",
            f"{len(columns):,} labels with those of the examples; at most {settings.max_labels:,} are accepted.",
            pointer="/examples",
            remedy="Send fewer labels.",
        )
    for index, negative in enumerate(negatives):
        if negative in columns:
            raise Problem(
                Kind.INVALID,
                "label-contradictory",
                "A label is asked for and ruled out",
                f"{negative[:80]!r} is a label and a negative label.",
                pointer=f"/negative_labels/{index}",
                remedy="Send it as one of them.",
            )
    places = {label: place for place, label in enumerate(columns)}
    shown = tuple(
        Example(places[example.label.strip()], example.picture or picture, example.box) for example in examples
    )
    return Vocabulary(columns, len(labels), negatives, shown)


def _labels(request: DetectRequest, settings: Settings) -> tuple[str, ...] | None:
    if request.labels is not None:
        return check_labels(request.labels, settings.max_labels, settings.max_text_chars)
    if request.label_set is not None:
        return named_set(request.label_set)
    return None


def _per_picture(request: DetectRequest, settings: Settings) -> list[tuple[str, ...]]:
    assert request.labels_per_picture is not None
    sent, count = request.labels_per_picture, len(request.pictures)
    if len(sent) != count:
        raise Problem(
            Kind.INVALID,
            "labels-per-image-count",
            "Lists of labels and images are not as many",
            f"There are {count} images and {len(sent)} lists of labels.",
            pointer="/labels_per_image",
            remedy="Send a list for each image, or `labels` for all.",
        )
    lists = []
    for index, labels in enumerate(sent):
        try:
            lists.append(check_labels(labels, settings.max_labels, settings.max_text_chars))
        except Problem as problem:
            place = (problem.pointer or "").removeprefix("/labels")
            raise problem.at(f"/labels_per_image/{index}{place}") from None
    return lists


def _negatives(request: DetectRequest, settings: Settings) -> tuple[str, ...]:
    if not request.negative_labels:
        return ()
    try:
        return check_labels(request.negative_labels, settings.max_labels, settings.max_text_chars)
    except Problem as problem:
        raise problem.at((problem.pointer or "").replace("/labels", "/negative_labels", 1)) from None


def check_examples(request: DetectRequest, settings: Settings, model: str, *, taken: bool) -> None:
    """Refuse examples that show nothing, or that the model has no use for. Raises ``example-*``."""
    if not request.examples:
        return
    if not taken:
        raise Problem(
            Kind.INVALID,
            "examples-unsupported",
            "The model takes no examples",
            f"{model!r} is told what to look for in words.",
            pointer="/examples",
            remedy="Leave examples out, or use a detector that compares regions.",
        )
    for index, example in enumerate(request.examples):
        where = f"/examples/{index}"
        try:
            check_labels([example.label], 1, settings.max_text_chars)
        except Problem as problem:
            raise problem.at(f"{where}/label") from None
        picture = example.picture
        if picture is None:
            if len(request.pictures) > 1:
                raise Problem(
                    Kind.INVALID,
                    "example-image-missing",
                    "It is not said which image an example is of",
                    f"Example {index} has no image, and {len(request.pictures)} are asked about.",
                    pointer=f"{where}/image",
                    remedy="Send the image with the example; data:, base64 or artifact:{id}.",
                )
            picture = request.pictures[0]
        _check_box(example.box, picture, f"{where}/box")


def _check_box(box: tuple[float, float, float, float], picture: Picture, where: str) -> None:
    left, top, right, bottom = box
    shown = f"[{left:g}, {top:g}, {right:g}, {bottom:g}]"
    if not (left < right and top < bottom):
        raise Problem(
            Kind.INVALID,
            "example-box-empty",
            "An example's box has no area",
            f"{shown} has no area: a box is [x0, y0, x1, y1] with x0 < x1 and y0 < y1.",
            pointer=where,
            remedy="Send left, top, right and bottom in pixels.",
        )
    if left < 0 or top < 0 or right > picture.width or bottom > picture.height:
        raise Problem(
            Kind.INVALID,
            "example-box-outside",
            "An example's box is not inside its image",
            f"{shown} reaches beyond {picture.width} x {picture.height} pixels.",
            pointer=where,
            remedy="Send pixels of the image as displayed, EXIF orientation applied.",
        )
