"""OpenVINO: the faster engine for many networks on CPUs, where the card says so and why.

bf16 needs a processor that has it; on another OpenVINO computes in float32, and ``providers`` says which it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import openvino

from models.catalog.card import Card, DataType, TensorSpec
from services.runtime.problems import inference_failed, model_invalid
from services.runtime.protocol import Tensor

_DATATYPES: dict[str, DataType] = {
    "boolean": "BOOL",
    "u8": "UINT8",
    "u16": "UINT16",
    "u32": "UINT32",
    "u64": "UINT64",
    "i8": "INT8",
    "i16": "INT16",
    "i32": "INT32",
    "i64": "INT64",
    "f16": "FP16",
    "f32": "FP32",
    "f64": "FP64",
}
_PRECISIONS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
"""Hints. The int8 of a card is in the file already; what is left in floating point stays as exact as it was."""


class OpenVinoSession:
    """See :class:`services.runtime.onnx.session.Session`."""

    def __init__(self, file: Path, card: Card, *, threads: int) -> None:
        name = f"{card.name}/{card.version}/{file.name}"
        wanted = _PRECISIONS[card.engine.precision]
        try:
            compiled = openvino.Core().compile_model(
                str(file),
                "CPU",
                {
                    "INFERENCE_PRECISION_HINT": wanted,
                    "INFERENCE_NUM_THREADS": threads,
                    "NUM_STREAMS": "1",
                    # Pinned threads of several processes would all sit on the first core.
                    "ENABLE_CPU_PINNING": False,
                },
            )
        except RuntimeError as error:
            raise model_invalid(
                f"{name}: OpenVINO refuses it: {_message(error, file)}", "Set engine.name to onnxruntime in its card."
            ) from error

        precision = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
        self.engine = f"openvino {openvino.get_version().split('-')[0]}"
        self.providers: tuple[str, ...] = (f"OpenVINO-CPU-{precision}",)
        self.reason = "" if precision == wanted else f"the processor has no {wanted}; the model runs in {precision}"
        self.inputs = tuple(_spec(name, port) for port in compiled.inputs)
        self.outputs = tuple(_spec(name, port) for port in compiled.outputs)
        self._ports = {spec.name: port for spec, port in zip(self.outputs, compiled.outputs, strict=True)}
        self._request = compiled.create_infer_request()

    def infer(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> dict[str, Tensor]:
        try:
            results = self._request.infer(dict(inputs), share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise inference_failed(_message(error)) from error
        # The request's own memory is written again by the next batch.
        return {name: np.array(results[self._ports[name]]) for name in outputs}


def _spec(name: str, port: openvino.ConstOutput) -> TensorSpec:
    kind = port.element_type.get_type_name()
    datatype = _DATATYPES.get(kind)
    if datatype is None:
        raise model_invalid(
            f"{name}: {port.any_name!r} is of type {kind}.", "Set engine.name to onnxruntime in its card."
        )
    sizes = port.partial_shape
    shape = tuple(-1 if size.is_dynamic else size.get_length() for size in sizes)
    return TensorSpec(name=port.any_name, datatype=datatype, shape=shape)


def _message(error: RuntimeError, file: Path | None = None) -> str:
    """The last line that says something: the others are places in OpenVINO's source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("Exception from")]
    text = " ".join(lines) or str(error)
    return (text if file is None else text.replace(str(file), file.name))[:400]
