"""One loaded model file behind one small protocol, whichever engine runs it."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from models.catalog.card import Card, TensorSpec
from services.runtime.problems import model_invalid
from services.runtime.protocol import Tensor
from services.runtime.repository import MODEL_FILE
from services.settings import Settings

_log = logging.getLogger("sightline.runtime")


class Session(Protocol):
    """A model in memory. ``reason`` says what is not as it was asked for; empty when all is.

    ``infer`` runs one batch in the calling thread and raises :class:`services.errors.Problem`. It is never called
    twice at once. Its outputs are the caller's to keep.
    """

    @property
    def engine(self) -> str: ...

    @property
    def providers(self) -> tuple[str, ...]: ...

    @property
    def reason(self) -> str: ...

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    def infer(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> dict[str, Tensor]: ...


def open_session(folder: Path, card: Card, settings: Settings, threads: int = 1) -> Session:
    """Load ``model.onnx`` with the engine that the card names, and compare its signature with the card's.

    An engine that is not installed is replaced by ONNX Runtime, which computes the same at its own speed; the log and
    the model's status say so. Raises ``model-invalid``.
    """
    file = folder / MODEL_FILE
    if not file.is_file():
        raise model_invalid(f"{card.name}/{card.version}/{MODEL_FILE} is missing.", "Import the model again.")
    session = _open(file, card, settings, threads)
    _compare(card, "inputs", card.inputs, session.inputs)
    _compare(card, "outputs", card.outputs, session.outputs)
    return session


def _open(file: Path, card: Card, settings: Settings, threads: int) -> Session:
    from services.runtime.onnx.onnxruntime import OrtSession

    if card.engine.name == "onnxruntime":
        return OrtSession(file, card, threads=threads, providers=settings.providers)
    if importlib.util.find_spec("openvino") is not None:
        from services.runtime.onnx.openvino import OpenVinoSession

        return OpenVinoSession(file, card, threads=threads)
    reason = "OpenVINO is not installed, ONNX Runtime serves the model: pip install 'sightline[openvino]'"
    _log.warning("%s/%s: %s", card.name, card.version, reason)
    return OrtSession(file, card, threads=threads, providers=settings.providers, reason=reason)


def _compare(card: Card, kind: str, promised: Sequence[TensorSpec], found: Sequence[TensorSpec]) -> None:
    """The card may name fewer outputs and narrower shapes than the file has, never other ones."""
    where = f"{card.name}/{card.version}/card.json: {kind}"
    remedy = "Import the model again, which reads the signature from the file."
    actual = {spec.name: spec for spec in found}
    for spec in promised:
        real = actual.get(spec.name)
        if real is None:
            raise model_invalid(f"{where}: {spec.name!r} is not in {MODEL_FILE}.", remedy)
        if real.datatype != spec.datatype:
            raise model_invalid(f"{where}: {spec.name!r} is {spec.datatype}, in the file {real.datatype}.", remedy)
        same_rank = len(real.shape) == len(spec.shape)
        if not same_rank or any(have not in (-1, want) for have, want in zip(real.shape, spec.shape, strict=True)):
            shown = f"{spec.name!r} is {list(spec.shape)}, in the file {list(real.shape)}"
            raise model_invalid(f"{where}: {shown}.", remedy)

    missing = [name for name in actual if name not in {spec.name for spec in promised}]
    if kind == "inputs" and missing:
        raise model_invalid(f"{where}: {missing[0]!r} of {MODEL_FILE} is not there.", remedy)
