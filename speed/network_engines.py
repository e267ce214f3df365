"""One network in every way that a processor can run it: PyTorch, ONNX Runtime, OpenVINO, each as a function."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.catalog.card import Card, Engine, Licence, TensorSpec
from models.export.onnx import Signature
from models.export.quantise import dynamic_int8
from services.runtime.onnx.onnxruntime import OrtSession

Feed = Mapping[str, NDArray[Any]]
Run = Callable[[Feed], NDArray[np.float32]]


@dataclass(frozen=True)
class Contender:
    """A way to run a network; ``run`` gives the output that is compared, ``(B, D)``."""

    name: str
    run: Run


@dataclass(frozen=True)
class Network:
    """One network: its module in eval mode, its exported file, and a feed of any batch."""

    name: str
    module: nn.Module
    file: Path
    signature: Signature
    output: str
    feed: Callable[[int], Feed]


def contenders(network: Network, threads: int, scratch: Path) -> Iterator[Contender]:
    """PyTorch as it stands and in bfloat16, then the exported file in each engine that is installed."""
    yield eager("PyTorch eager fp32", network.module, network)
    yield eager("PyTorch bf16", network.module, network, torch.bfloat16)
    yield onnxruntime("ONNX Runtime fp32", network, network.file, threads)
    quantised = scratch / f"{network.file.stem}.int8.onnx"
    dynamic_int8(network.file, quantised)
    yield onnxruntime("ONNX Runtime int8, dynamic, MatMul", network, quantised, threads)
    if importlib.util.find_spec("openvino") is not None:
        yield openvino("OpenVINO f32", network, "fp32", threads)
        yield openvino("OpenVINO bf16", network, "bf16", threads)


def eager(name: str, module: nn.Module, network: Network, dtype: torch.dtype | None = None) -> Contender:
    """``module`` called as it is, or under autocast."""

    def run(feed: Feed) -> NDArray[np.float32]:
        with torch.inference_mode(), torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            answered = module(*(torch.from_numpy(array) for array in feed.values()))
        return _first(answered).float().numpy()

    return Contender(name, run)


def onnxruntime(name: str, network: Network, file: Path, threads: int) -> Contender:
    """A file in ONNX Runtime, as serving opens it."""
    session = OrtSession(file, _card(network, "onnxruntime", "fp32"), threads=threads)
    return Contender(name, lambda feed: session.infer(feed, [network.output])[network.output])


def openvino(name: str, network: Network, precision: str, threads: int) -> Contender:
    """The exported file in OpenVINO, as serving opens it; the name says what the processor really computes in."""
    from services.runtime.onnx.openvino import OpenVinoSession

    session = OpenVinoSession(network.file, _card(network, "openvino", precision), threads=threads)
    told = f" ({session.reason})" if session.reason else ""
    return Contender(name + told, lambda feed: session.infer(feed, [network.output])[network.output])


def _card(network: Network, engine: str, precision: str) -> Card:
    return Card(
        name="network",
        task="tensor",
        family="benchmark",
        title=network.name,
        description="A network that is measured.",
        outputs=(TensorSpec(name=network.output, datatype="FP32", shape=(-1, -1)),),
        engine=Engine.model_validate({"name": engine, "precision": precision}),
        licence=Licence(spdx="CC0-1.0"),
    )


def _first(answered: Any) -> Tensor:
    """The tensor that is compared: the only one, the first of several, or the logits of a Hugging Face output."""
    if isinstance(answered, Tensor):
        return answered
    return answered.logits if hasattr(answered, "logits") else _first(answered[0])
