"""Which of the usual forms the outputs of an imported detector have: told by their shapes and by what a run gave.

Every form is a row of ``FORMS``; its owner may name it where the outputs leave a doubt. Sources: the exporters of YOLOX
(``tools/export_onnx.py``), YOLOv5 (``export.py``), Ultralytics (YOLOv8 to 11), YOLOv7 (its end-to-end export), DETR and
RT-DETR (``tools/export_onnx.py``), torchvision, and TensorFlow's object detection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.catalog.detection import Decode
from models.catalog.roles import Role
from models.intake.onnx_file import ImportRefused

Array = NDArray[Any]
STRIDES = ((8, 16, 32), (8, 16, 32, 64), (16, 32), (4, 8, 16, 32))
"""Of the cells that YOLOX and its kin have."""

_QUERIES = 2000
"""A transformer has fewer boxes; one-stage detectors have thousands."""


@dataclass(frozen=True)
class Outputs:
    """What a run gave of one picture: every output without its axis of pictures, where they are ``batched``.

    ``classes`` is how many labels there are, ``size`` the height and width of the input.
    """

    arrays: Mapping[str, Array]
    classes: int
    size: tuple[int, int]
    batched: bool

    @staticmethod
    def of(answers: Mapping[str, Array], classes: int, size: tuple[int, int]) -> Outputs:
        """From the outputs of a run with one picture. Boxes of several pictures have three axes."""
        batched = max(array.ndim for array in answers.values()) >= 3
        arrays = {name: array[0] if batched else array for name, array in answers.items()}
        return Outputs(arrays, classes, size, batched)


@dataclass(frozen=True)
class Form:
    """How a detector's outputs are read, and which output is what. ``name`` is what ``--form`` takes."""

    name: str
    roles: Mapping[Role, str]
    decode: Decode
    finished: bool = False
    """No box shows what another one does: suppression is in the graph, or not needed."""


Reader = Callable[[Outputs], Form | None]


def detector_form(outputs: Outputs, name: str | None = None) -> Form:
    """The form of ``outputs``, or that of ``name``; raises :class:`ImportRefused` that says how they look."""
    shown = ", ".join(f"{one} {list(array.shape)} {array.dtype}" for one, array in outputs.arrays.items())
    if name is not None:
        found = FORMS[name](outputs)
        if found is None:
            raise ImportRefused(
                f"the outputs of a picture are {shown}, which are not of the form {name} with {outputs.classes} labels",
                "give as many labels as the model has classes, or leave --form out",
            )
        return found

    fitting = [form for form in (read(outputs) for read in FORMS.values()) if form is not None]
    kinds = {form.decode.model_dump_json() for form in fitting}
    if len(kinds) == 1:
        return fitting[0]
    if not fitting:
        raise ImportRefused(
            f"with {outputs.classes} labels the outputs of a picture are of no form that is known: {shown}",
            "give as many labels as the model has classes; export it with decoded boxes, as the usual exporters do: "
            + ", ".join(FORMS),
        )
    names = ", ".join(form.name for form in fitting)
    raise ImportRefused(
        f"the outputs may be of several forms: {names}", f"say which one it is: --form {fitting[0].name}"
    )


def _only(outputs: Outputs) -> tuple[str, Array] | None:
    """The only output, ``(N, K)``."""
    if len(outputs.arrays) != 1:
        return None
    ((name, array),) = outputs.arrays.items()
    return (name, array) if array.ndim == 2 else None


def _yolov8(outputs: Outputs) -> Form | None:
    """``(4 + C, N)``: centre and size in pixels, and probabilities."""
    only = _only(outputs)
    if only is None or only[1].shape[0] != 4 + outputs.classes:
        return None
    unit = _is_unit(only[1][:4])
    decode = Decode(layout="joined", transposed=True, box="cxcywh", unit=unit, scores=_kind(only[1][4:]))
    return Form("yolov8", {"detections": only[0]}, decode)


def _yolov5(outputs: Outputs) -> Form | None:
    """``(N, 5 + C)``: centre and size in pixels, objectness, and probabilities."""
    only = _only(outputs)
    if only is None or only[1].shape[1] != 5 + outputs.classes or _in_strides(only[1], outputs.size) is not None:
        return None
    unit = _is_unit(only[1][:, :4])
    decode = Decode(layout="joined", objectness=True, box="cxcywh", unit=unit, scores=_kind(only[1][:, 4:]))
    return Form("yolov5", {"detections": only[0]}, decode)


def _yolox(outputs: Outputs) -> Form | None:
    """``(N, 5 + C)`` with a row for every cell, in strides of its level."""
    only = _only(outputs)
    if only is None or only[1].shape[1] != 5 + outputs.classes:
        return None
    strides = _in_strides(only[1], outputs.size)
    if strides is None:
        return None
    decode = Decode(layout="joined", objectness=True, box="grid", strides=strides, scores=_kind(only[1][:, 4:]))
    return Form("yolox", {"detections": only[0]}, decode)


def _in_strides(rows: Array, size: tuple[int, int]) -> tuple[int, ...] | None:
    """The strides of a grid that has as many cells as there are rows, where boxes are written in them.

    Boxes that are decoded already lie around their cells; written in strides they lie around the origin.
    """
    for strides in STRIDES:
        counts = [(size[0] // stride) * (size[1] // stride) for stride in strides]
        if sum(counts) != len(rows):
            continue
        columns = [np.mgrid[0 : size[0] // stride, 0 : size[1] // stride][::-1].reshape(2, -1).T for stride in strides]
        scale = np.concatenate([np.full((count, 1), stride) for count, stride in zip(counts, strides, strict=True)])
        centres = (np.concatenate(columns) + 0.5) * scale
        decoded = np.abs(rows[:, :2] - centres).mean()
        if np.abs(rows[:, :2] * scale).mean() < decoded:
            return strides
    return None


def _yolo_nms(outputs: Outputs) -> Form | None:
    """``(N, 6)``: edges in pixels, score, class; ``(N, 7)``: number of the picture, edges, class, score."""
    only = _only(outputs)
    if only is None or only[1].shape[1] not in (6, 7):
        return None
    rows = only[1]
    label = rows[:, 5]
    whole = bool((label == np.floor(label)).all() and (label >= -1).all() and (label < outputs.classes).all())
    ordered = _are_edges(rows[:, 1:5] if rows.shape[1] == 7 else rows[:, :4])
    if not whole or not ordered:
        return None
    return Form("yolo-nms", {"detections": only[0]}, Decode(layout="rows"), finished=True)


def _efficient_nms(outputs: Outputs) -> Form | None:
    """TensorRT's plug-in: ``num_dets``, ``det_boxes``, ``det_scores``, ``det_classes``."""
    roles = _named(outputs, count="num", boxes="box", scores="score", labels="class")
    if roles is None or any("detection_" in name for name in roles.values()):
        return None
    return Form("efficient-nms", roles, Decode(unit=_is_unit(outputs.arrays[roles["boxes"]])), finished=True)


def _tf_ssd(outputs: Outputs) -> Form | None:
    """TensorFlow's: ``detection_boxes`` as top, left, bottom, right, and classes from 1."""
    roles = _named(outputs, count="num", boxes="box", scores="score", labels="class")
    if roles is None or not all("detection" in name for name in roles.values()):
        return None
    return Form("tf-ssd", roles, Decode(box="yxyx", unit=True, background="first"), finished=True)


def _torchvision(outputs: Outputs) -> Form | None:
    """``boxes (N, 4)``, ``scores (N,)`` and ``labels (N,)`` from 1, of one picture."""
    roles = _named(outputs, boxes="box", scores="score", labels="label")
    if roles is None or outputs.batched:
        return None
    return Form("torchvision", roles, Decode(background="first"), finished=True)


def _rt_detr_boxes(outputs: Outputs) -> Form | None:
    """RT-DETR's deployed form: ``labels``, ``boxes`` in pixels and ``scores``, as many for every picture."""
    roles = _named(outputs, boxes="box", scores="score", labels="label")
    if roles is None or not outputs.batched:
        return None
    return Form("rt-detr-boxes", roles, Decode(unit=_is_unit(outputs.arrays[roles["boxes"]])), finished=True)


def _rt_detr(outputs: Outputs) -> Form | None:
    """Boxes as shares of the input, centre and size, and a logit for each class."""
    pair = _pair(outputs, outputs.classes)
    if pair is None or _are_edges(outputs.arrays[pair[0]]) or len(outputs.arrays[pair[0]]) > _QUERIES:
        return None
    decode = Decode(box="cxcywh", unit=True, scores=_kind(outputs.arrays[pair[1]]))
    return Form("rt-detr", {"boxes": pair[0], "scores": pair[1]}, decode, finished=True)


def _detr(outputs: Outputs) -> Form | None:
    """Boxes as shares of the input, centre and size, and logits of classes with that of nothing last."""
    pair = _pair(outputs, outputs.classes + 1)
    if pair is None or _are_edges(outputs.arrays[pair[0]]) or len(outputs.arrays[pair[0]]) > _QUERIES:
        return None
    kind = "probability" if _kind(outputs.arrays[pair[1]]) == "probability" else "softmax"
    decode = Decode(box="cxcywh", unit=True, scores=kind, background="last")
    return Form("detr", {"boxes": pair[0], "scores": pair[1]}, decode, finished=True)


def _ssd(outputs: Outputs) -> Form | None:
    """Decoded boxes of every prior, and scores of classes with that of the background first."""
    pair = _pair(outputs, outputs.classes + 1)
    if pair is None or not _are_edges(outputs.arrays[pair[0]]):
        return None
    boxes, scores = outputs.arrays[pair[0]], outputs.arrays[pair[1]]
    kind = "probability" if _kind(scores) == "probability" else "softmax"
    decode = Decode(unit=_is_unit(boxes), scores=kind, background="first")
    return Form("ssd", {"boxes": pair[0], "scores": pair[1]}, decode)


def _boxes_scores(outputs: Outputs) -> Form | None:
    """Boxes by their edges and a probability for each class."""
    pair = _pair(outputs, outputs.classes)
    if pair is None or not _are_edges(outputs.arrays[pair[0]]):
        return None
    boxes, scores = outputs.arrays[pair[0]], outputs.arrays[pair[1]]
    return Form(
        "boxes-scores",
        {"boxes": pair[0], "scores": pair[1]},
        Decode(unit=_is_unit(boxes), scores=_kind(scores)),
    )


def _pair(outputs: Outputs, width: int) -> tuple[str, str] | None:
    """The outputs ``(N, 4)`` and ``(N, width)`` of one that has these two alone."""
    if len(outputs.arrays) != 2 or any(array.ndim != 2 for array in outputs.arrays.values()):
        return None
    names = sorted(outputs.arrays, key=lambda name: ("box" not in name.lower(), name))
    for boxes, scores in (names, names[::-1]):
        one, other = outputs.arrays[boxes], outputs.arrays[scores]
        if one.shape[1] == 4 and other.shape[1] == width and len(one) == len(other):
            return boxes, scores
    return None


def _named(outputs: Outputs, **parts: str) -> dict[Role, str] | None:
    """One output for each role, by what their names have in them."""
    if len(outputs.arrays) != len(parts):
        return None
    roles: dict[Role, str] = {}
    for role, part in parts.items():
        fitting = [name for name in outputs.arrays if part in name.lower()]
        if len(fitting) != 1:
            return None
        roles[role] = fitting[0]  # type: ignore[index]
    return roles if len(set(roles.values())) == len(parts) else None


def _kind(scores: Array) -> Any:
    """``probability`` where all values are, else what makes them so."""
    return "probability" if bool(((scores >= 0) & (scores <= 1)).all()) else "sigmoid"


def _are_edges(boxes: Array) -> bool:
    boxes = boxes.reshape(-1, 4)
    return bool((boxes[:, 2] >= boxes[:, 0]).all() and (boxes[:, 3] >= boxes[:, 1]).all())


def _is_unit(boxes: Array) -> bool:
    return bool(boxes.size) and float(np.abs(boxes).max()) <= 2


FORMS: Mapping[str, Reader] = {
    "yolox": _yolox,
    "yolov5": _yolov5,
    "yolov8": _yolov8,
    "yolo-nms": _yolo_nms,
    "efficient-nms": _efficient_nms,
    "rt-detr": _rt_detr,
    "rt-detr-boxes": _rt_detr_boxes,
    "detr": _detr,
    "ssd": _ssd,
    "tf-ssd": _tf_ssd,
    "torchvision": _torchvision,
    "boxes-scores": _boxes_scores,
}
"""By the name that ``--form`` takes."""


def names() -> Sequence[str]:
    """Every form's name."""
    return tuple(FORMS)
