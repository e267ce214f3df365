"""The backend ``onnxruntime`` for a tritonserver that has none: in Python, by the platform's own engines.

Runs in Triton's processes, one for each instance of a model, with the packages of their environment. The session is
the one that the gateway would use, so the answers, the refusals and the engine that a card names are the same, too.
Triton hands over what has queued up; what has one shape runs together.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as utils

from models.catalog.card import Card
from models.repository.triton_config import THREADS
from services.errors import Kind, Problem
from services.runtime.onnx.cores import threads_for
from services.runtime.onnx.opening import GAIN, LARGE_BYTES, SMALL_SECONDS
from services.runtime.onnx.session import Session, open_session
from services.runtime.onnx.warmup import row_seconds
from services.runtime.protocol import Tensor
from services.runtime.tensors import Signature
from services.settings import Settings


class TritonPythonModel:
    """What Triton looks for in this file."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the version's ``model.onnx``; what is raised here is the reason that Triton shows."""
        folder = Path(args["model_repository"]) / args["model_version"]
        try:
            self._card = Card.read(folder)
            self._signature = Signature(self._card)
            asked = json.loads(args["model_config"]).get("parameters", {}).get(THREADS, {}).get("string_value", "0")
            self._session = _open(folder, self._card, int(asked))
        except Problem as problem:
            raise utils.TritonModelException(f"{problem.title}: {problem.detail} {problem.remedy or ''}") from problem

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response for each request, in their order; a request that fails does not fail the others."""
        responses: list[Any] = [None] * len(requests)
        inputs = [{spec.name: _read(request, spec.name) for spec in self._card.inputs} for request in requests]
        groups: dict[tuple[object, ...], list[int]] = {}
        for place, (request, read) in enumerate(zip(requests, inputs, strict=True)):
            if request.is_cancelled():
                responses[place] = _failed("The request was cancelled.", utils.TritonError.CANCELLED)
                continue
            shapes = tuple(array.shape[1:] for array in read.values())
            groups.setdefault(shapes if self._signature.batched else (place,), []).append(place)

        for places in groups.values():
            answers = self._run([requests[place] for place in places], [inputs[place] for place in places])
            for place, answer in zip(places, answers, strict=True):
                responses[place] = answer

        return responses

    def _run(self, requests: Sequence[Any], inputs: Sequence[Mapping[str, Tensor]]) -> list[Any]:
        """Requests of one shape, together; one after another if that fails, so that only the bad one does."""
        wanted = [tuple(request.requested_output_names()) for request in requests]
        names = tuple(name for name in self._signature.outputs if any(name in these for these in wanted))
        feed = inputs[0] if len(inputs) == 1 else _joined(inputs)
        try:
            outputs = self._session.infer(feed, names)
        except Problem as problem:
            if len(requests) == 1:
                code = utils.TritonError.INVALID_ARG if problem.kind is Kind.INVALID else utils.TritonError.INTERNAL
                return [_failed(problem.detail or problem.title, code)]
            return [self._run([request], [read])[0] for request, read in zip(requests, inputs, strict=True)]

        if len(requests) == 1:
            return [_answer({name: outputs[name] for name in wanted[0]})]

        rows = [len(next(iter(read.values()))) for read in inputs]
        if any(len(array) != sum(rows) for array in outputs.values()):
            reason = "An output has not as many rows as the inputs."
            return [_failed(reason, utils.TritonError.INTERNAL) for _ in requests]

        answers, begin = [], 0
        for these, count in zip(wanted, rows, strict=True):
            end = begin + count
            answers.append(_answer({name: outputs[name][begin:end] for name in these}))
            begin = end

        return answers


def _open(folder: Path, card: Card, asked: int) -> Session:
    """With the threads that are asked for; else with more than one only where that is worth them."""
    settings = Settings()
    most = threads_for(asked or card.engine.intra_op_threads, 1)
    is_large = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) > LARGE_BYTES
    if asked or card.engine.intra_op_threads or most == 1 or is_large:
        return open_session(folder, card, settings, most)
    session = open_session(folder, card, settings, 1)
    alone = row_seconds(card, lambda inputs: _timed(session, card, inputs))
    if alone <= SMALL_SECONDS:
        return session
    wide = open_session(folder, card, settings, most)
    together = row_seconds(card, lambda inputs: _timed(wide, card, inputs))
    return wide if together < GAIN * alone or math.isinf(alone) else session


def _timed(session: Session, card: Card, inputs: Mapping[str, Tensor]) -> float:
    began = time.perf_counter()
    session.infer(inputs, [spec.name for spec in card.outputs])
    return time.perf_counter() - began


def _read(request: Any, name: str) -> Tensor:
    array: Tensor = utils.get_input_tensor_by_name(request, name).as_numpy()
    return array


def _joined(inputs: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: np.concatenate([read[name] for read in inputs]) for name in inputs[0]}


def _answer(outputs: Mapping[str, Tensor]) -> Any:
    return utils.InferenceResponse(output_tensors=[utils.Tensor(name, array) for name, array in outputs.items()])


def _failed(message: str, code: int) -> Any:
    return utils.InferenceResponse(output_tensors=[], error=utils.TritonError(message, code))
