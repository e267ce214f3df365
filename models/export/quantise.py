"""Smaller weights for the CPU, measured against what they replace."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path


def dynamic_int8(source: Path, target: Path, operators: Sequence[str] = ("MatMul",)) -> None:
    """Weights of ``operators`` to int8, one scale an output channel; activations are quantised while running.

    For networks of matrix products. Convolutions get slower by it (ConvInteger has no fast kernel).
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        # Both functions advise on the root logger to do what the first line does.
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)
        try:
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            quantize_dynamic(
                str(prepared),
                str(target),
                weight_type=QuantType.QInt8,
                op_types_to_quantize=list(operators),
                per_channel=True,
            )
        finally:
            root.setLevel(level)


def half(source: Path, target: Path) -> None:
    """Weights and arithmetic in float16, inputs and outputs as they were: for GPUs.

    For networks whose values stay below 65,504; whether they do, comparing the two shows.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)
