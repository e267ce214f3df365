"""An exported network in the precision that it is to be served in, with what that costs measured against PyTorch.

======== ============================================ =======================================================
fp32     the file as it is                            exact; ONNX Runtime
bf16     the file as it is, computed in bfloat16      the fastest on processors that have it; OpenVINO
fp16     half of the bytes                            for GPUs: no faster on a processor
int8     weights of matrix products in eight bits     a third of the bytes where those are most; ONNX Runtime
======== ============================================ =======================================================
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from models.catalog.card import Engine, Measurement
from models.errors import ModelError
from models.export.onnx import Answer, ExportError, Signature, agreement, session
from models.export.quantise import dynamic_int8, half

Precision = Literal["fp32", "bf16", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
LEAST = {"bf16": 0.999, "fp16": 0.999, "int8": 0.99}
"""The cosine to float32 that every row of every output must have."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The file to serve, what its card says of the engine, and what was measured."""

    file: Path
    engine: Engine
    measured: tuple[Measurement, ...]


def choose(
    network: nn.Module,
    examples: Sequence[Sequence[Tensor]],
    signature: Signature,
    exact: Path,
    error: float,
    precision: Precision | None,
) -> Chosen:
    """``exact`` is the exported file and ``error`` its largest one; ``examples`` are what the cost is measured on.

    ``precision`` ``None`` is bf16 where OpenVINO is installed and the network bears it, else fp32. Raises
    :class:`ModelError` for what this file cannot have, :class:`ExportError` where the cosine is below :data:`LEAST`.
    """
    if precision == "bf16" or (precision is None and has_openvino()):
        try:
            return _bf16(network, examples, signature, exact)
        except ExportError:
            if precision is not None:
                raise

    if precision in (None, "fp32"):
        return Chosen(exact, Engine(reason=f"Exact: {error:.1e} of the largest value from PyTorch"), ())
    if exact.with_name(f"{exact.name}.data").exists():
        raise ModelError(
            f"{precision} is not made of networks whose weights are in a file beside the graph",
            "Leave the precision out, or ask for fp32 or bf16.",
        )

    target = exact.with_name(f"{precision}-{exact.name}")
    if precision == "fp16":
        half(exact, target)
        reason = "For GPUs: half of the bytes, and no faster on a processor"
    else:
        dynamic_int8(exact, target)
        reason = f"{target.stat().st_size / exact.stat().st_size:.0%} of the bytes: matrix products in eight bits"

    cosine = agreement(network, examples, signature, target, least=LEAST[precision or ""], plain=precision == "fp16")
    return _chosen(target, Engine(name="onnxruntime", precision=precision or "fp32"), reason, cosine, examples)


def answers(chosen: Chosen, exact: Path, signature: Signature) -> tuple[Answer, Answer]:
    """The exact file, and the chosen one in the engine that its card names, to be run side by side."""
    if chosen.engine.name == "openvino":
        served = _openvino(chosen.file, signature)
    else:
        served = session(chosen.file, signature, plain=chosen.engine.precision == "fp16")
    return session(exact, signature), served


def has_openvino() -> bool:
    """Return whether bf16 can be tried here."""
    return importlib.util.find_spec("openvino") is not None


def _bf16(network: nn.Module, examples: Sequence[Sequence[Tensor]], signature: Signature, exact: Path) -> Chosen:
    if not has_openvino():
        raise ModelError("bf16 is measured with OpenVINO, which is not installed", "pip install 'sightline[openvino]'")
    cosine = agreement(network, examples, signature, exact, least=LEAST["bf16"], answer=_openvino(exact, signature))
    engine = Engine(name="openvino", precision="bf16")
    return _chosen(exact, engine, "The fastest of the engines measured (speed/networks.py)", cosine, examples)


def _openvino(file: Path, signature: Signature) -> Answer:
    import openvino

    hint = {"INFERENCE_PRECISION_HINT": "bf16", "ENABLE_CPU_PINNING": False}
    compiled = openvino.Core().compile_model(str(file), "CPU", hint)
    request = compiled.create_infer_request()

    def answer(feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        results = request.infer(feeds)
        return [np.array(results[name]) for name in signature.outputs]

    return answer


def _chosen(file: Path, engine: Engine, reason: str, cosine: float, examples: Sequence[Sequence[Tensor]]) -> Chosen:
    told = f"{reason}; every output has cosine {cosine:.5f} or more to float32"
    rows = sum(len(example[0]) for example in examples)
    measured = Measurement(
        dataset="made-up inputs of several sizes",
        metric=f"least cosine of {engine.precision} to float32",
        value=round(cosine, 6),
        n=rows,
        source="sightline models convert",
        note="What it costs in accuracy, --pictures or a benchmark job says of pictures of yours",
    )
    return Chosen(file, engine.model_copy(update={"reason": told}), (measured,))
