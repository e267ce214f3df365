"""``python -m speed.glip``: what GLIP-T costs on this machine, part by part, in PyTorch and in ONNX Runtime.

Weights are random: they change no time. Processor seconds are those of all threads together, and say what a run costs
also where other work shares the machine; the least of three runs is printed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper

from models.export.onnx import trace
from models.glip.deform import deform_conv
from models.glip.export import HEAD, IMAGE, TEXT, HeadPart, ImagePart, TextPart, head_inputs, pictures, texts
from models.glip.network import Glip
from models.glip.variants import VARIANTS

RUNS = 3


def timed(run: Callable[[], object]) -> str:
    """Wall and processor seconds, the least of :data:`RUNS`, after one that warms up."""
    run()
    walls, processors = [], []
    for _ in range(RUNS):
        wall, processor = time.perf_counter(), time.process_time()
        run()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return f"{min(walls):.2f} s, processor {min(processors):.2f} s"


def session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """``path`` on the processor."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def parts(network: Glip, size: tuple[int, int], length: int, threads: int, *, exported: bool) -> None:
    """Text, picture and head, each alone; ``exported`` also as ONNX, which takes minutes to write."""
    ids = texts(network.config.bert.vocabulary, 1, length)
    joined = head_inputs(network, 1, size, length)
    rows = [
        ("text", TextPart(network), ids, TEXT, texts(network.config.bert.vocabulary, 2, 9)),
        ("picture", ImagePart(network), (pictures(1, *size),), IMAGE, (pictures(2, 96, 128),)),
        ("head", HeadPart(network), joined, HEAD, head_inputs(network, 2, (320, 448), 9)),
    ]
    for name, part, inputs, signature, example in rows:
        for precision in ("fp32", "bf16"):
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                print(f"{name}, {length} tokens, PyTorch {precision}: {timed(partial(part, *inputs))}", flush=True)

        if not exported:
            continue
        with tempfile.TemporaryDirectory() as folder:
            trace(part, example, signature, Path(folder) / "model.onnx")
            runs = session(Path(folder) / "model.onnx", threads)
            feeds = {key: tensor.numpy() for key, tensor in zip(signature.inputs, inputs, strict=True)}
            print(f"{name}, {length} tokens, ONNX Runtime: {timed(partial(runs.run, None, feeds))}", flush=True)


def one_convolution(threads: int) -> None:
    """The deformable convolution of the finest level: gathered rows against ONNX's own operator."""
    shapes = {
        "x": (1, 256, 40, 60),
        "w": (256, 256, 3, 3),
        "offset": (1, 18, 40, 60),
        "b": (256,),
        "mask": (1, 9, 40, 60),
    }
    generator = np.random.default_rng(0)
    feeds = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    x, weight, offset, bias, mask = (torch.from_numpy(tensor) for tensor in feeds.values())
    with torch.no_grad():
        print(f"one convolution, gathered, PyTorch: {timed(lambda: deform_conv(x, offset, mask, weight, bias))}")

    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 256, 40, 60))
    node = helper.make_node("DeformConv", list(shapes), ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    model = helper.make_model(
        helper.make_graph([node], "deform", inputs, [output]),
        opset_imports=[helper.make_opsetid("", 19)],
        ir_version=10,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        runs = session(path, threads)
        found = np.asarray(runs.run(None, feeds)[0])
        with torch.no_grad():
            error = np.abs(found - deform_conv(x, offset, mask, weight, bias).numpy()).max()
        taken = timed(lambda: runs.run(None, feeds))
        print(f"one convolution, DeformConv of ONNX Runtime: {taken}, differs by {error:.0e}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line a part."""
    parser = argparse.ArgumentParser(prog="python -m speed.glip", description=__doc__)
    parser.add_argument("--height", type=int, default=320)
    parser.add_argument("--width", type=int, default=480)
    parser.add_argument("--tokens", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--exported", action="store_true", help="ONNX Runtime too: minutes, and two gigabytes")
    options = parser.parse_args(arguments)

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    network = Glip(VARIANTS["glip_t"]).eval()
    one_convolution(options.threads)
    for length in options.tokens:
        parts(network, (options.height, options.width), length, options.threads, exported=options.exported)


if __name__ == "__main__":
    main()
