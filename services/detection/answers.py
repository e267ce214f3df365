"""What detection and grounding are asked, and what they answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from services.detection.protocol import Box
from services.media.image import Picture


@dataclass(frozen=True, slots=True)
class LabelledExample:
    """A box of ``picture`` that shows ``label``; ``picture`` absent: the one that is asked about."""

    label: str
    box: Box
    picture: Picture | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What is left out of an answer; what is ``None`` is as the model's card says.

    ``threshold``: least score. ``nms_iou``: the overlap from which on two boxes of a label show the same; 1 keeps all.
    """

    threshold: float | None = None
    max_detections: int | None = None
    nms_iou: float | None = None


@dataclass(frozen=True, slots=True)
class DetectRequest:
    """Pictures and what to find in them: ``labels`` or a ``label_set`` for all, or ``labels_per_picture``.

    A closed-set detector needs none of them. ``render`` asks for the boxes drawn into each picture.
    """

    pictures: Sequence[Picture]
    labels: Sequence[str] | None = None
    label_set: str | None = None
    labels_per_picture: Sequence[Sequence[str]] | None = None
    negative_labels: Sequence[str] = ()
    examples: Sequence[LabelledExample] = ()
    limits: Limits = Limits()
    render: bool = False


@dataclass(frozen=True, slots=True)
class GroundRequest:
    """Pictures with a caption each. ``phrases`` of the captions, or the noun phrases that are found in them.

    ``one_caption``: all captions are the same one, which was sent once.
    """

    pictures: Sequence[Picture]
    captions: Sequence[str]
    one_caption: bool = False
    phrases: Sequence[str] | None = None
    limits: Limits = Limits()
    render: bool = False


@dataclass(frozen=True, slots=True)
class Detection:
    """A box, what it shows, and how sure that is, 0 to 1."""

    label: str
    score: float
    box: Box


@dataclass(frozen=True, slots=True)
class Presence:
    """How likely ``label`` is in the picture at all, 0 to 1."""

    label: str
    score: float


@dataclass(slots=True)
class DetectedImage:
    """The answer for one picture; ``detections`` best first, ``presence`` in the order of the labels.

    ``rendered`` is a PNG or JPEG file.
    """

    index: int
    width: int
    height: int
    detections: list[Detection]
    presence: list[Presence]
    rendered: bytes | None = None


@dataclass(frozen=True, slots=True)
class PhraseBox:
    """Where a phrase is, and how sure that is."""

    box: Box
    score: float


@dataclass(frozen=True, slots=True)
class GroundedPhrase:
    """``text`` is ``caption[span[0]:span[1]]``; ``boxes`` best first; ``presence`` as of a label."""

    text: str
    span: tuple[int, int]
    boxes: list[PhraseBox]
    presence: float


@dataclass(slots=True)
class GroundedImage:
    """The answer for one picture: the phrases of its caption in their order."""

    index: int
    width: int
    height: int
    caption: str
    phrases: list[GroundedPhrase]
    rendered: bytes | None = None


@dataclass(slots=True)
class Usage:
    """What a request cost: ``labels`` asked of all pictures, ``prompt_tokens`` read together with pictures.

    ``chunks``: runs of the network that the longest vocabulary was split into; ``proposals``: boxes looked at;
    ``boxes``: answered.
    """

    labels: int = 0
    prompt_tokens: int = 0
    chunks: int = 1
    proposals: int = 0
    boxes: int = 0

    def counts(self) -> dict[str, int]:
        """By the names that metrics and answers use."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class DetectAnswer:
    """Answers in the order of the pictures, and who gave them."""

    model: str
    version: str
    results: list[DetectedImage]
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class GroundAnswer:
    """Answers in the order of the pictures, and who gave them."""

    model: str
    version: str
    results: list[GroundedImage]
    usage: Usage = field(default_factory=Usage)
