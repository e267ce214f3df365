"""Builds tiny ONNX models and repositories of them, so that tests serve real files without downloading any."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.catalog.card import Batching, Card, Licence, TensorSpec, TextPreprocess
from models.catalog.geometry import ImagePreprocess
from models.repository.triton_config import config_pbtxt

LABELS = ("cat", "dog", "fish", "apple", "car")
IMAGE_SIZE = 32
FEATURES = 8
TEXT_DIM = 16
WORDS = ("a", "photo", "of", "the", "cat", "dog", "fish", "apple", "car", "red", "green", "old")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
LICENCE = Licence(spdx="CC0-1.0", attribution="Random numbers made by the tests")

ELEMENT = {
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "FP16": TensorProto.FLOAT16,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "BOOL": TensorProto.BOOL,
    "BYTES": TensorProto.STRING,
}


def _weight(rng: np.random.Generator, name: str, *shape: int) -> TensorProto:
    fan_in = int(np.prod(shape[1:])) or 1
    return numpy_helper.from_array((rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32), name)


def _finish(nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: list[Any], opset: int) -> bytes:
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _value(name: str, datatype: str, shape: list[int | str]) -> Any:
    return helper.make_tensor_value_info(name, ELEMENT[datatype], shape)


@cache
def classifier(size: int | None = IMAGE_SIZE, classes: int = len(LABELS), seed: int = 0, layers: int = 1) -> bytes:
    """``image (N, 3, size, size) float32`` to ``logits (N, classes)`` and ``features (N, 8)``; size None is any H, W.

    More ``layers`` make it slower: each is one more 3x3 convolution at full resolution.
    """
    rng = np.random.default_rng(seed)
    side: list[int | str] = ["H", "W"] if size is None else [size, size]
    weights = [_weight(rng, "w0", FEATURES, 3, 3, 3), _weight(rng, "fc", classes, FEATURES)]
    nodes = [helper.make_node("Conv", ["image", "w0"], ["c0"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])]
    last = "c0"
    for layer in range(1, layers):
        weights.append(_weight(rng, f"w{layer}", FEATURES, FEATURES, 3, 3))
        nodes.append(helper.make_node("Relu", [last], [f"r{layer}"]))
        conv = helper.make_node("Conv", [f"r{layer}", f"w{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1])
        nodes.append(conv)
        last = f"c{layer}"
    nodes += [
        helper.make_node("Relu", [last], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "fc"], ["logits"], transB=1),
    ]
    return _finish(
        nodes,
        [_value("image", "FP32", ["N", 3, *side])],
        [_value("logits", "FP32", ["N", classes]), _value("features", "FP32", ["N", FEATURES])],
        weights,
        opset=17,
    )


@cache
def looking(patch: int = 8, seed: int = 0) -> bytes:
    """:func:`classifier` for any size, with a FocalNet's ``modulation (N, H / 8, W / 8)``: the patches' brightness."""
    rng = np.random.default_rng(seed)
    weights = [
        _weight(rng, "w0", FEATURES, 3, 3, 3),
        _weight(rng, "fc", len(LABELS), FEATURES),
        numpy_helper.from_array(np.full((1, 3, 1, 1), 1 / 3, np.float32), "grey"),
        numpy_helper.from_array(np.array([1], np.int64), "channel"),
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["c0"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "fc"], ["logits"], transB=1),
        helper.make_node("Conv", ["image", "grey"], ["brightness"], kernel_shape=[1, 1]),
        helper.make_node("AveragePool", ["brightness"], ["patches"], kernel_shape=[patch] * 2, strides=[patch] * 2),
        helper.make_node("Squeeze", ["patches", "channel"], ["modulation"]),
    ]
    outputs = [
        _value("logits", "FP32", ["N", len(LABELS)]),
        _value("features", "FP32", ["N", FEATURES]),
        _value("modulation", "FP32", ["N", "h", "w"]),
    ]
    return _finish(nodes, [_value("image", "FP32", ["N", 3, "H", "W"])], outputs, weights, opset=17)


@cache
def text_encoder(dim: int = TEXT_DIM, seed: int = 0) -> bytes:
    """``input_ids, attention_mask (N, L) int64`` to ``embedding (N, dim) float32``: the mean of the tokens' rows."""
    rng = np.random.default_rng(seed)
    weights = [
        _weight(rng, "table", len(vocabulary()), dim),
        numpy_helper.from_array(np.array([1], np.int64), "token_axis"),
        numpy_helper.from_array(np.array([2], np.int64), "last_axis"),
    ]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last_axis"], ["column"]),
        helper.make_node("Mul", ["rows", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "token_axis"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "token_axis"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["embedding"]),
    ]
    return _finish(
        nodes,
        [_value("input_ids", "INT64", ["N", "L"]), _value("attention_mask", "INT64", ["N", "L"])],
        [_value("embedding", "FP32", ["N", dim])],
        weights,
        opset=18,
    )


@cache
def adder(datatype: str = "FP32", width: int = 4, offset: int = 0) -> bytes:
    """``a, b (N, width)`` to ``sum (N, width)``, all of one numeric ``datatype``; ``offset`` is added to the sum."""
    dtype = helper.tensor_dtype_to_np_dtype(ELEMENT[datatype])
    weights = [numpy_helper.from_array(np.array([offset], dtype), "offset")]
    nodes = [helper.make_node("Add", ["a", "b"], ["ab"]), helper.make_node("Add", ["ab", "offset"], ["sum"])]
    shape: list[int | str] = ["N", width]
    inputs = [_value("a", datatype, shape), _value("b", datatype, shape)]
    return _finish(nodes, inputs, [_value("sum", datatype, shape)], weights, opset=20)


@cache
def echo(datatypes: tuple[str, ...]) -> bytes:
    """For each datatype ``X``: input ``in_x (N, W)`` to the same ``out_x (N, W)``."""
    shape: list[int | str] = ["N", "W"]
    names = [datatype.lower() for datatype in datatypes]
    nodes = [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in names]
    inputs = [_value(f"in_{name}", datatype, shape) for name, datatype in zip(names, datatypes, strict=True)]
    outputs = [_value(f"out_{name}", datatype, shape) for name, datatype in zip(names, datatypes, strict=True)]
    return _finish(nodes, inputs, outputs, [], opset=20)


@cache
def slow(iterations: int = 200, width: int = 64) -> bytes:
    """``x (N, width) float32`` to ``y``: ``iterations`` matrix products, about 4 us each; a rotation, so norms stay."""
    rng = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(rng.standard_normal((width, width)))
    weights = [
        numpy_helper.from_array(rotation.astype(np.float32), "rotation"),
        numpy_helper.from_array(np.array(iterations, np.int64), "times"),
        numpy_helper.from_array(np.array(True), "yes"),
    ]
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "rotation"], ["state_out"]),
            helper.make_node("Identity", ["go"], ["go_out"]),
        ],
        "body",
        [_value("step", "INT64", []), _value("go", "BOOL", []), _value("state", "FP32", ["N", width])],
        [_value("go_out", "BOOL", []), _value("state_out", "FP32", ["N", width])],
    )
    nodes = [helper.make_node("Loop", ["times", "yes", "x"], ["y"], body=body)]
    shape: list[int | str] = ["N", width]
    return _finish(nodes, [_value("x", "FP32", shape)], [_value("y", "FP32", shape)], weights, opset=20)


def vocabulary() -> tuple[str, ...]:
    """Special tokens, a few words, then letters as word starts and continuations: every ASCII word has ids."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    single = [letter for letter in letters if letter not in WORDS]
    return (*SPECIAL, *WORDS, *single, *(f"##{letter}" for letter in letters), ",", ".", "-", "!", "?")


@cache
def tokenizer() -> bytes:
    """A ``tokenizer.json`` (WordPiece, lower case, ``[CLS] ... [SEP]``) over :func:`vocabulary`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    ids = {token: index for index, token in enumerate(vocabulary())}
    built = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    built.normalizer = normalizers.BertNormalizer(lowercase=True)
    built.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    built.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    )
    return str(built.to_str()).encode()


def specs(model: bytes) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of an ONNX file as a card spells them."""
    graph = onnx.load_from_string(model).graph
    spelled = {number: name for name, number in ELEMENT.items()}

    def spec(value: Any) -> TensorSpec:
        tensor = value.type.tensor_type
        shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)
        return TensorSpec(name=value.name, datatype=spelled[tensor.elem_type], shape=shape)

    return tuple(map(spec, graph.input)), tuple(map(spec, graph.output))


def card(name: str, model: bytes | None = None, **fields: Any) -> Card:
    """A card with the model's own signature; any field can be given."""
    inputs, outputs = specs(model) if model is not None else ((), ())
    defaults: dict[str, Any] = {
        "name": name,
        "task": "tensor",
        "family": "tiny",
        "title": name,
        "description": "A model of the tests.",
        "inputs": inputs,
        "outputs": outputs,
        "licence": LICENCE,
    }
    return Card(**(defaults | fields))


def write(root: Path, card: Card, files: dict[str, bytes]) -> Path:
    """Write one version folder in Triton's layout, with hashes in its card; returns the folder."""
    folder = root / card.name / card.version
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    full = card.model_copy(update={"files": hashes})
    (folder / "card.json").write_text(json.dumps(full.model_dump(mode="json"), indent=1))
    if "model.onnx" in files:
        (root / card.name / "config.pbtxt").write_text(config_pbtxt(full))
    return folder


def add_classifier(root: Path, name: str = "tiny-classifier", *, seed: int = 0, **fields: Any) -> Path:
    """A closed-set classifier over :data:`LABELS` for 32-pixel images, which also gives embeddings."""
    model = classifier(seed=seed)
    defaults: dict[str, Any] = {
        "task": "classify",
        "image": ImagePreprocess(size=IMAGE_SIZE),
        "label_set": "labels.txt",
        "roles": {"logits": "logits", "embedding": "features"},
    }
    files = {"model.onnx": model, "labels.txt": "\n".join(LABELS).encode()}
    return write(root, card(name, model, **(defaults | fields)), files)


def add_text_encoder(root: Path, name: str = "tiny-text", **fields: Any) -> Path:
    """A text encoder with its tokenizer."""
    model = text_encoder()
    defaults: dict[str, Any] = {
        "task": "embed-text",
        "text": TextPreprocess(max_length=32),
        "roles": {"embedding": "embedding"},
    }
    return write(root, card(name, model, **(defaults | fields)), {"model.onnx": model, "tokenizer.json": tokenizer()})


def add_adder(root: Path, name: str = "tiny-adder", *, datatype: str = "FP32", offset: int = 0, **fields: Any) -> Path:
    """A tensor model; ``offset`` tells versions apart."""
    model = adder(datatype, offset=offset)
    defaults: dict[str, Any] = {"batching": Batching(max_batch_size=8)}
    return write(root, card(name, model, **(defaults | fields)), {"model.onnx": model})


def add_echo(root: Path, name: str = "tiny-echo", datatypes: tuple[str, ...] = tuple(ELEMENT), **fields: Any) -> Path:
    """A tensor model that gives back what it got, in every datatype of the protocol."""
    model = echo(datatypes)
    return write(root, card(name, model, **fields), {"model.onnx": model})


def add_all(root: Path) -> Path:
    """The repository that most tests use: ``tiny-classifier``, ``tiny-text``, ``tiny-adder``, ``tiny-echo``."""
    root.mkdir(parents=True, exist_ok=True)
    add_classifier(root)
    add_text_encoder(root)
    add_adder(root)
    add_echo(root)
    return root
