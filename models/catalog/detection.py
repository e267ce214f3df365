"""How detections are read out of a detector's outputs, and which of them are answered: data that a card carries."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Presence(_Data):
    """The probability that a label is in the picture at all, from the best score that any box has for it.

    ``sigmoid(slope * logit(best) + offset)``: Platt's scaling, fitted by logistic regression on pictures that no figure
    is reported of. Without one a model's presence is the best score itself.

    >>> Presence(slope=2.0, offset=1.5).slope
    2.0
    """

    slope: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    offset: float = Field(default=0.0, allow_inf_nan=False)


class Decode(_Data):
    """How the outputs of a closed-set detector become boxes in pixels of its input, and probabilities.

    ``layout`` says where they stand:

    - ``separate``: outputs with the roles ``boxes`` ``(B, N, 4)`` and ``scores`` ``(B, N, C)``; or ``(B, N)`` where
      ``labels`` ``(B, N)`` says the class. ``count`` ``(B,)``, where there is one, says how many of them are filled.
    - ``joined``: one output ``detections`` ``(B, N, 4 + C)``, box before classes, with ``objectness`` between them
      ``(B, N, 5 + C)``, by which they are multiplied; ``transposed`` where N is its last axis.
    - ``rows``: one output ``detections`` ``(B, N, 6)`` of detections that are finished: box, score, class; or
      ``(N, 7)`` of one picture: its number, box, class, score.

    ``box`` is how a box is written: ``xyxy`` edges, ``yxyx`` edges as TensorFlow orders them, ``cxcywh`` centre and
    size, ``grid`` cells of ``strides`` (YOLOX: the centre less the cell's corner, and the logarithm of the size, both
    in strides), ``priors`` (SSD: differences to the boxes of the file ``priors``, by ``variances``). ``unit`` boxes are
    shares of the input's width and height, others its pixels.

    ``scores`` is what makes them probabilities; ``background`` is the class that means nothing, left out.

    YOLOv8's export, and RT-DETR's:

    >>> Decode(layout="joined", transposed=True, box="cxcywh").objectness
    False
    >>> Decode(layout="separate", box="cxcywh", unit=True, scores="sigmoid").background is None
    True
    """

    layout: Literal["separate", "joined", "rows"] = "separate"
    box: Literal["xyxy", "yxyx", "cxcywh", "grid", "priors"] = "xyxy"
    unit: bool = False
    transposed: bool = False
    objectness: bool = False
    scores: Literal["probability", "sigmoid", "softmax"] = "probability"
    background: Literal["first", "last"] | None = None
    strides: tuple[int, ...] = Field(default=(), description="Of the cells of `grid`, as the rows are ordered")
    priors: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors$",
        description="A file of the version folder: `priors` (N, 4), centre and size",
    )
    variances: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)

    @model_validator(mode="after")
    def _names_what_it_needs(self) -> Decode:
        if (self.box == "grid") != bool(self.strides):
            raise ValueError("strides are the cells of box grid: give both or neither")
        if (self.box == "priors") != (self.priors is not None):
            raise ValueError("priors is the file of box priors: give both or neither")
        if self.layout != "joined" and (self.transposed or self.objectness):
            raise ValueError("transposed and objectness are of layout joined")
        return self


class Detection(_Data):
    """Which detections are answered where a request does not say: all of a card's ``detection``.

    ``decode`` is what a closed-set detector (task ``detect``) has; a pipeline's own code decodes. ``nms_iou`` absent:
    the model's detections need no suppression. ``inclusive``: an edge belongs to its box, so that widths count one
    pixel more, as detectors of the maskrcnn-benchmark line were trained (GLIP).

    A closed-set detector, and an open-vocabulary pipeline with calibrated presence:

    >>> Detection(threshold=0.25, decode=Decode(layout="joined", transposed=True, box="cxcywh")).nms_iou
    0.6
    >>> Detection(threshold=0.05, presence=Presence(slope=1.7, offset=2.2)).decode is None
    True
    """

    threshold: float = Field(default=0.3, ge=0, le=1, description="Boxes that score less are left out")
    nms_iou: float | None = Field(default=0.6, gt=0, le=1)
    max_detections: int = Field(default=100, ge=1, le=10_000)
    inclusive: bool = False
    presence: Presence | None = None
    decode: Decode | None = None
