"""Tiny detectors with known answers: each quarter of a picture is a box, its share of a colour that class's score."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from PIL import Image

from models.catalog.card import Pipeline
from models.catalog.detection import Decode, Detection, Presence
from models.catalog.geometry import LongerSide
from services.detection.protocol import Array, Found, Vocabulary, present, suppressed
from services.encoding.class_rows import ClassRows
from services.media.image import Picture
from services.runtime.protocol import ModelHandle, Options
from services.stages import Stages
from tests.support import tiny_models

SIDE = 64
COLOURS = ("red", "green", "blue")
HALF = SIDE // 2
QUARTERS = np.array(
    [[0, 0, HALF, HALF], [HALF, 0, SIDE, HALF], [0, HALF, HALF, SIDE], [HALF, HALF, SIDE, SIDE]], np.float32
)
"""Left, top, right, bottom, in reading order."""

CENTRED = np.concatenate([(QUARTERS[:, :2] + QUARTERS[:, 2:]) / 2, QUARTERS[:, 2:] - QUARTERS[:, :2]], axis=1)


class Graph:
    """Nodes of one ONNX graph, each named by a number; every method returns the name of a tensor."""

    def __init__(self, batch: str | int = "N", side: int | str = SIDE) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.inputs = [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [batch, 3, side, side])]

    def constant(self, values: Any, dtype: type = np.float32) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def op(self, kind: str, *inputs: str, count: int = 1, **attributes: Any) -> Any:
        names = [f"t{len(self.nodes)}_{index}" for index in range(count)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if count == 1 else names

    def shares(self) -> str:
        """``(N, 4, 3)``: how red, green and blue each quarter is."""
        pooled = self.op("AveragePool", "images", kernel_shape=[HALF, HALF], strides=[HALF, HALF])
        flat = self.op("Reshape", pooled, self.constant([0, 3, 4], np.int64))
        turned = self.op("Transpose", flat, perm=[0, 2, 1])
        return str(self.op("Clip", turned, self.constant(0), self.constant(1)))

    def each(self, values: Any, like: str) -> str:
        """``values (M, K)`` for every picture of ``like (N, M, *)``: ``(N, M, K)``."""
        first = self.op("Slice", like, *(self.constant([bound], np.int64) for bound in (0, 1, 2)))
        zero = self.op("Mul", first, self.constant(0))
        return str(self.op("Add", zero, self.constant(np.asarray(values, np.float32)[None])))

    def build(
        self, outputs: dict[str, str], shapes: dict[str, list[Any]], types: dict[str, int] | None = None
    ) -> bytes:
        for name, tensor in outputs.items():
            self.nodes.append(helper.make_node("Identity", [tensor], [name]))
        told = [
            helper.make_tensor_value_info(name, (types or {}).get(name, onnx.TensorProto.FLOAT), shapes[name])
            for name in outputs
        ]
        graph = helper.make_graph(self.nodes, "tiny", self.inputs, told, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
        model.ir_version = 10
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())


@cache
def yolov8() -> bytes:
    """``output0 (N, 4 + 3, 4)``: centre, size and classes, one column a box."""
    graph = Graph()
    shares = graph.shares()
    joined = graph.op("Concat", graph.each(CENTRED, shares), shares, axis=2)
    return graph.build({"output0": graph.op("Transpose", joined, perm=[0, 2, 1])}, {"output0": ["N", 7, 4]})


def add_closed(root: Path, name: str = "tiny-closed", **fields: Any) -> Path:
    """A closed-set detector of :data:`COLOURS`, letterboxed."""
    model = yolov8()
    decode = Decode(layout="joined", transposed=True, box="cxcywh")
    image = LongerSide(input="images", size=SIDE, mean=(0, 0, 0), std=(1, 1, 1), fill=(0, 0, 0), centred=True)
    defaults: dict[str, Any] = {
        "task": "detect",
        "image": image,
        "label_set": "labels.txt",
        "roles": {"detections": "output0"},
        "detection": Detection(threshold=0.5, decode=decode),
    }
    files = {"model.onnx": model, "labels.txt": "\n".join(COLOURS).encode()}
    return tiny_models.write(root, tiny_models.card(name, model, **(defaults | fields)), files)


def add_open(root: Path, name: str = "tiny-open", kind: str = "quarters") -> Path:
    """A pipeline over ``tiny-text``; see :class:`Quarters`."""
    detection = Detection(threshold=0.5, presence=Presence(slope=2.0, offset=0.0))
    pipeline = Pipeline.model_validate({"kind": kind, "parts": {"text": "tiny-text@1"}})
    card = tiny_models.card(name, task="zero-shot-detect", pipeline=pipeline, detection=detection)
    return tiny_models.write(root, card, {})


KIND = ("tests.support.tiny_detectors", "Quarters", ("text",))


class Quarters:
    """Boxes are the quarters of a picture; a label's score is its colour's share there, or the example's likeness.

    A label is known by a colour among its words; others score 0.
    """

    takes_examples = True

    def __init__(self, model: ModelHandle, rows: ClassRows) -> None:
        self._presence = model.card.detection.presence if model.card.detection else None

    async def detect(
        self, pictures: Sequence[Picture], vocabularies: Sequence[Vocabulary], options: Options, stages: Stages
    ) -> AsyncGenerator[Found, None]:
        for picture, vocabulary in zip(pictures, vocabularies, strict=True):
            scale = np.array([picture.width, picture.height] * 2, np.float32) / SIDE
            shares = _shares(picture)
            columns = [_row(text) for text in vocabulary.texts]
            for label in range(vocabulary.named, len(vocabulary.labels)):
                shown = next(one for one in vocabulary.examples if one.label == label)
                part = _mean(np.asarray(shown.picture.image.crop(tuple(map(int, shown.box)))))
                columns.insert(label, part)
            scores = np.stack([(shares @ row).clip(0, 1) for row in columns], axis=1).astype(np.float32)
            scores = suppressed(scores, vocabulary)
            yield Found(QUARTERS * scale, scores, present(scores, self._presence), proposals=4, tokens=3, chunks=2)


def _row(text: str) -> Array:
    words = text.lower().split()
    return np.array([colour in words for colour in COLOURS], np.float32)


def _mean(pixels: Any) -> Array:
    return np.asarray(pixels.reshape(-1, 3).mean(axis=0) / 255, np.float32)


def _shares(picture: Picture) -> Array:
    small = np.asarray(picture.image.resize((2, 2), Image.Resampling.BOX), np.float32) / 255
    return small.reshape(4, 3)


def quarters(*colours: str | tuple[int, int, int], size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """A picture whose four quarters have these colours."""
    image = Image.new("RGB", size)
    halves = (size[0] // 2, size[1] // 2)
    for index, colour in enumerate(colours):
        image.paste(colour, ((index % 2) * halves[0], (index // 2) * halves[1], *size))
        if index % 2 == 0:
            image.paste("black", (halves[0], (index // 2) * halves[1], *size))
    return image


def png(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()


def detector(form: str) -> bytes:
    """A detector of quarters as the exporters of ``form`` write it."""
    built: bytes = _FORMS[form]()
    return built


def _joined(*parts: str, graph: Graph, shape: list[Any]) -> bytes:
    return graph.build({"output0": graph.op("Concat", *parts, axis=2)}, {"output0": shape})


def _yolov5() -> bytes:
    graph = Graph(batch=1)
    shares = graph.shares()
    return _joined(
        graph.each(CENTRED, shares), graph.each(np.ones((4, 1)), shares), shares, graph=graph, shape=[1, 4, 8]
    )


def _yolox() -> bytes:
    """Of 84 cells those of stride 32 are the quarters; the others have no object."""
    graph = Graph()
    shares = graph.shares()
    found = graph.op("Concat", graph.each(np.tile([[0.5, 0.5, 0, 0, 1]], (4, 1)), shares), shares, axis=2)
    first = graph.op("Slice", shares, *(graph.constant([bound], np.int64) for bound in (0, 1, 1)))
    shape = graph.op("Concat", graph.op("Shape", first, start=0, end=1), graph.constant([80, 8], np.int64), axis=0)
    empty = graph.op("Expand", graph.constant(np.zeros((1, 1, 1))), shape)
    return graph.build({"output": graph.op("Concat", empty, found, axis=1)}, {"output": ["N", 84, 8]})


def _rt_detr() -> bytes:
    graph = Graph()
    shares = graph.shares()
    logits = graph.op("Sub", graph.op("Mul", shares, graph.constant(8)), graph.constant(4))
    boxes = graph.each(CENTRED / SIDE, shares)
    return graph.build({"logits": logits, "pred_boxes": boxes}, {"logits": ["N", 4, 3], "pred_boxes": ["N", 4, 4]})


def _detr() -> bytes:
    """Nothing, the last class, has the logit 4; a colour that fills a quarter has 8."""
    graph = Graph()
    shares = graph.shares()
    logits = graph.op(
        "Concat", graph.op("Mul", shares, graph.constant(8)), graph.each(np.full((4, 1), 4), shares), axis=2
    )
    boxes = graph.each(CENTRED / SIDE, shares)
    return graph.build(
        {"pred_logits": logits, "pred_boxes": boxes}, {"pred_logits": ["N", 4, 4], "pred_boxes": ["N", 4, 4]}
    )


def _ssd() -> bytes:
    graph = Graph()
    shares = graph.shares()
    rest = graph.op("Sub", graph.constant(1), graph.op("ReduceSum", shares, graph.constant([2], np.int64)))
    scores = graph.op("Concat", graph.op("Relu", rest), shares, axis=2)
    outputs = {"scores": scores, "boxes": graph.each(QUARTERS / SIDE, shares)}
    return graph.build(outputs, {"scores": ["N", 4, 4], "boxes": ["N", 4, 4]})


def _best(graph: Graph) -> tuple[str, str, str]:
    """Of each quarter its best colour: shares ``(N, 4, 3)``, scores ``(N, 4)`` and classes ``(N, 4)`` from 0."""
    shares = graph.shares()
    scores = graph.op("ReduceMax", shares, graph.constant([2], np.int64), keepdims=0)
    return shares, str(scores), str(graph.op("ArgMax", shares, axis=2, keepdims=0))


def _yolo_nms() -> bytes:
    graph = Graph()
    shares, scores, classes = _best(graph)
    last = graph.constant([2], np.int64)
    parts = [graph.each(QUARTERS, shares), graph.op("Unsqueeze", scores, last)]
    parts.append(graph.op("Unsqueeze", graph.op("Cast", classes, to=onnx.TensorProto.FLOAT), last))
    return _joined(*parts, graph=graph, shape=["N", 4, 6])


def _yolov7_nms() -> bytes:
    """``(M, 7)``, of one picture: its number, box, class, score; boxes without a colour are gone."""
    graph = Graph(batch=1)
    shares, scores, classes = _best(graph)
    last = graph.constant([2], np.int64)
    number = graph.each(np.zeros((4, 1)), shares)
    label = graph.op("Unsqueeze", graph.op("Cast", classes, to=onnx.TensorProto.FLOAT), last)
    rows = graph.op("Concat", number, graph.each(QUARTERS, shares), label, graph.op("Unsqueeze", scores, last), axis=2)
    flat = graph.op("Squeeze", rows, graph.constant([0], np.int64))
    sure = graph.op("Greater", graph.op("Squeeze", scores, graph.constant([0], np.int64)), graph.constant(0.25))
    return graph.build({"output": graph.op("Compress", flat, sure, axis=0)}, {"output": ["M", 7]})


def _torchvision() -> bytes:
    graph = Graph(batch=1)
    shares, scores, classes = _best(graph)
    first = graph.constant([0], np.int64)
    flat_scores = graph.op("Squeeze", scores, first)
    sure = graph.op("Greater", flat_scores, graph.constant(0.25))
    labels = graph.op("Add", graph.op("Squeeze", classes, first), graph.constant(1, np.int64))
    outputs = {
        "boxes": graph.op("Compress", graph.op("Squeeze", graph.each(QUARTERS, shares), first), sure, axis=0),
        "labels": graph.op("Compress", labels, sure, axis=0),
        "scores": graph.op("Compress", flat_scores, sure, axis=0),
    }
    shapes: dict[str, list[Any]] = {"boxes": ["M", 4], "labels": ["M"], "scores": ["M"]}
    return graph.build(outputs, shapes, {"labels": onnx.TensorProto.INT64})


def _tf_ssd() -> bytes:
    graph = Graph()
    shares, scores, classes = _best(graph)
    labels = graph.op("Cast", graph.op("Add", classes, graph.constant(1, np.int64)), to=onnx.TensorProto.FLOAT)
    count = graph.op("ReduceSum", graph.op("Sub", scores, scores), graph.constant([1], np.int64), keepdims=0)
    outputs = {
        "detection_boxes": graph.each(QUARTERS[:, [1, 0, 3, 2]] / SIDE, shares),
        "detection_classes": labels,
        "detection_scores": scores,
        "num_detections": graph.op("Add", count, graph.constant(4)),
    }
    shapes: dict[str, list[Any]] = {
        "detection_boxes": ["N", 4, 4],
        "detection_classes": ["N", 4],
        "detection_scores": ["N", 4],
        "num_detections": ["N"],
    }
    return graph.build(outputs, shapes)


def _efficient_nms() -> bytes:
    graph = Graph()
    shares, scores, classes = _best(graph)
    zero = graph.op("ReduceSum", graph.op("Sub", scores, scores), graph.constant([1], np.int64))
    outputs = {
        "num_dets": graph.op("Cast", graph.op("Add", zero, graph.constant(4)), to=onnx.TensorProto.INT32),
        "det_boxes": graph.each(QUARTERS, shares),
        "det_scores": scores,
        "det_classes": graph.op("Cast", classes, to=onnx.TensorProto.INT32),
    }
    shapes: dict[str, list[Any]] = {
        "num_dets": ["N", 1],
        "det_boxes": ["N", 4, 4],
        "det_scores": ["N", 4],
        "det_classes": ["N", 4],
    }
    return graph.build(outputs, shapes, {"num_dets": onnx.TensorProto.INT32, "det_classes": onnx.TensorProto.INT32})


def _rt_detr_boxes() -> bytes:
    """With the input ``orig_target_sizes``, width and height, that boxes are scaled to."""
    graph = Graph()
    graph.inputs.append(helper.make_tensor_value_info("orig_target_sizes", onnx.TensorProto.INT64, ["N", 2]))
    shares, scores, classes = _best(graph)
    sizes = graph.op("Cast", "orig_target_sizes", to=onnx.TensorProto.FLOAT)
    four = graph.op("Unsqueeze", graph.op("Concat", sizes, sizes, axis=1), graph.constant([1], np.int64))
    outputs = {
        "labels": classes,
        "boxes": graph.op("Mul", graph.each(QUARTERS / SIDE, shares), four),
        "scores": scores,
    }
    shapes: dict[str, list[Any]] = {"labels": ["N", 4], "boxes": ["N", 4, 4], "scores": ["N", 4]}
    return graph.build(outputs, shapes, {"labels": onnx.TensorProto.INT64})


def _boxes_scores() -> bytes:
    graph = Graph()
    shares = graph.shares()
    return graph.build(
        {"boxes": graph.each(QUARTERS, shares), "scores": shares}, {"boxes": ["N", 4, 4], "scores": ["N", 4, 3]}
    )


_FORMS: dict[str, Any] = {
    "yolov8": yolov8,
    "yolov5": _yolov5,
    "yolox": _yolox,
    "rt-detr": _rt_detr,
    "rt-detr-boxes": _rt_detr_boxes,
    "detr": _detr,
    "ssd": _ssd,
    "yolo-nms": _yolo_nms,
    "yolov7-nms": _yolov7_nms,
    "torchvision": _torchvision,
    "tf-ssd": _tf_ssd,
    "efficient-nms": _efficient_nms,
    "boxes-scores": _boxes_scores,
}
