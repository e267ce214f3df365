"""ONNX Runtime: sessions, execution providers, and the check that only one build of it is installed.

Measured on two cores (2 x EPYC, ONNX Runtime 1.32, ``tiny``: three convolutions at 224 px):
- one row with two threads takes 390 us if they spin, 241 if not: between batches a spinning pool takes the cores from
  decoding and from the other gateway processes, so spinning is off;
- an input/output binding with a reused output buffer saves 8 of 190 us, which the copy out of it would cost again:
  ``run`` it is.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np

from models.catalog.card import Card, DataType, TensorSpec
from services.errors import Kind, Problem
from services.runtime.problems import engine_failed, inference_failed, model_invalid, tensor_problem
from services.runtime.protocol import Tensor

DISTRIBUTIONS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnxruntime-directml",
    "onnxruntime-qnn",
    "ort-nightly",
    "ort-nightly-gpu",
)
"""Packages that all install the one module ``onnxruntime``, each over the files of the other."""

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"

_DATATYPES: dict[str, DataType] = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
}
_STATUS = re.compile(r"Status Message: (?:/\S+:\d+ )?(.*)", re.DOTALL)
_NOT_THE_CLIENT = re.compile(r"alloc|out of memory|cuda|cudnn|cublas|tensorrt", re.IGNORECASE)

_log = logging.getLogger("sightline.runtime")


def check_onnxruntime_install(path: Iterable[str] | None = None) -> str:
    """The one installed distribution of ONNX Runtime; raises ``onnxruntime-missing`` or ``onnxruntime-conflict``.

    ``path``: folders to look in, those that Python imports from when absent.
    """
    if path is None:
        found = [name for name in DISTRIBUTIONS if _is_installed(name)]
    else:
        names = {(one.name or "").lower().replace("_", "-") for one in metadata.distributions(path=list(path))}
        found = [name for name in DISTRIBUTIONS if name in names]

    if not found:
        raise Problem(
            Kind.CONFLICT,
            "onnxruntime-missing",
            "ONNX Runtime is not installed",
            remedy="pip install 'sightline[cpu]', or 'sightline[gpu]' on a machine with an NVIDIA GPU.",
        )

    if len(found) > 1:
        raise Problem(
            Kind.CONFLICT,
            "onnxruntime-conflict",
            "More than one build of ONNX Runtime is installed",
            f"{' and '.join(found)} overwrite each other's files; which one runs is whichever came last.",
            remedy=f"pip uninstall -y {' '.join(found)}; then install one: pip install 'sightline[cpu]' "
            "or 'sightline[gpu]'.",
        )

    return found[0]


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


class OrtSession:
    """See :class:`services.runtime.onnx.session.Session`."""

    def __init__(
        self, file: Path, card: Card, *, threads: int, providers: tuple[str, ...] = (), reason: str = ""
    ) -> None:
        import onnxruntime

        available = onnxruntime.get_available_providers()
        wanted = providers or tuple(name for name in (CUDA, CPU) if name in available)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(file), options, providers=[name for name in wanted if name in available] or [CPU]
            )
        except Exception as error:  # the binding's exceptions have no common base of their own
            if not _is_ort(error):
                raise
            name = f"{card.name}/{card.version}/{file.name}"
            raise model_invalid(
                f"{name}: ONNX Runtime refuses it: {_message(error, file)}", "Check the file with onnx.checker."
            ) from error
        self.engine = f"onnxruntime {onnxruntime.__version__}"
        self.providers: tuple[str, ...] = tuple(self._session.get_providers())
        fallback = self._fallback(wanted)
        if fallback:
            # get_available_providers() lists CUDA wherever the GPU build is installed, also on a machine without one.
            _log.error("%s/%s: %s", card.name, card.version, fallback)
        self.reason = "; ".join(part for part in (reason, fallback) if part)
        self.inputs = tuple(_spec(card, node) for node in self._session.get_inputs())
        self.outputs = tuple(_spec(card, node) for node in self._session.get_outputs())
        self._texts = {spec.name for spec in self.inputs if spec.datatype == "BYTES"}
        self._run_options = onnxruntime.RunOptions()
        self._run_options.log_severity_level = 4  # what fails for a client's values is the client's to read

    def infer(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> dict[str, Tensor]:
        if self._texts:
            inputs = {name: _decoded(name, a) if name in self._texts else a for name, a in inputs.items()}
        try:
            results = self._session.run(list(outputs), inputs, self._run_options)
        except Exception as error:
            if not _is_ort(error):
                raise
            text = _message(error)
            raise (engine_failed if _NOT_THE_CLIENT.search(text) else inference_failed)(text) from error
        return {
            name: _encoded(result) if result.dtype == object else result
            for name, result in zip(outputs, results, strict=True)
        }

    def _fallback(self, wanted: Sequence[str]) -> str:
        missing = [name for name in wanted if name not in self.providers]
        if not missing:
            return ""
        return f"{', '.join(missing)} was asked for and is not in use; the model runs on {', '.join(self.providers)}"


def _spec(card: Card, node: object) -> TensorSpec:
    name, kind, shape = node.name, node.type, node.shape  # type: ignore[attr-defined]
    datatype = _DATATYPES.get(kind.removeprefix("tensor(").removesuffix(")"))
    if datatype is None or not kind.startswith("tensor("):
        raise model_invalid(
            f"{card.name}/{card.version}/model.onnx: {name!r} is {kind}.", "Export it so that it is a plain tensor."
        )
    return TensorSpec(
        name=name, datatype=datatype, shape=tuple(size if isinstance(size, int) else -1 for size in shape)
    )


def _is_ort(error: Exception) -> bool:
    return type(error).__module__.startswith("onnxruntime.")


def _message(error: Exception, file: Path | None = None) -> str:
    """ONNX Runtime's words without its source lines and without the path of the model file."""
    text = str(error)
    match = _STATUS.search(text)
    text = (match[1] if match else text.split(" : ", 2)[-1]).strip()
    if file is not None:
        text = text.replace(str(file), file.name)
    return text[:400]


def _decoded(name: str, array: Tensor) -> Tensor:
    """Bytes to the text that ONNX's string tensors hold."""
    texts = np.empty(array.shape, object)
    try:
        texts.flat[:] = [value.decode() if isinstance(value, bytes) else str(value) for value in array.flat]
    except UnicodeDecodeError as error:
        raise tensor_problem(
            "tensor-value", "A text is not UTF-8", f"Input {name!r}: {error}.", "Send UTF-8."
        ) from error
    return texts


def _encoded(array: Tensor) -> Tensor:
    encoded = np.empty(array.shape, object)
    encoded.flat[:] = [value.encode() for value in array.flat]
    return encoded
