"""The small network and the picture that every server of the benchmark gets.

Three convolutions, about 9 million multiplications: what a server adds around a network shows, the network does not.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

SIZE = 224
CLASSES = 1000
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
LAYERS = ((16, 4), (32, 2), (64, 2))
"""Channels and stride of each 3x3 convolution."""


def write_network(path: Path) -> None:
    """``image (N, 3, 224, 224)`` to ``logits (N, 1000)``, weights from a fixed seed."""
    rng = np.random.default_rng(0)
    nodes, weights, source, channels = [], [], "image", 3

    def weight(name: str, *shape: int) -> str:
        scale = np.sqrt(2 / np.prod(shape[1:]))
        weights.append(numpy_helper.from_array((rng.standard_normal(shape) * scale).astype(np.float32), name))
        return name

    for index, (out, stride) in enumerate(LAYERS):
        kernel = weight(f"kernel{index}", out, channels, 3, 3)
        nodes.append(helper.make_node("Conv", [source, kernel], [f"conv{index}"], strides=[stride] * 2, pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"conv{index}"], [f"relu{index}"]))
        source, channels = f"relu{index}", out
    nodes += [
        helper.make_node("GlobalAveragePool", [source], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("MatMul", ["features", weight("head", channels, CLASSES)], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def picture() -> bytes:
    """A 224x224 JPEG with the smoothness and the grain of a photo, about 18 kB."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (14, 14, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.int16)
    grained = np.clip(smooth + rng.integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(grained).save(out, "JPEG", quality=90)
    return out.getvalue()


def tensor(jpeg: bytes) -> np.ndarray:
    """The picture as the network takes it, ``(1, 3, 224, 224) float32``."""
    pixels = np.asarray(Image.open(io.BytesIO(jpeg)), np.float32) / 255
    scaled = (pixels - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None].astype(np.float32))


def right_answer(network: Path, jpeg: bytes) -> int:
    """The class that every server must put first; its lead must be too wide for rounding to matter."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
    logits = session.run(None, {"image": tensor(jpeg)})[0][0]
    first, second = np.sort(logits)[-1], np.sort(logits)[-2]
    assert first - second > 1e-2, "the two best classes are too close to check answers by"
    return int(logits.argmax())
