"""An inference request of the protocol, parsed and checked for all that needs no model."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from gateway.oip.body import Sent
from gateway.oip.elements import dtype_of, from_bytes, from_json, shape_of, wrong
from gateway.request.parsing import parse_json
from models.catalog.card import Card
from services.errors import Kind, Problem
from services.runtime.protocol import Options

MAX_VALUES = 1_000_000
"""Commas and brackets in the JSON: parsed, a number takes 32 bytes. Larger tensors have the binary form."""

MAX_TENSORS = 256

_SHARED = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset")
_MICROSECOND = 1e-6


@dataclass(frozen=True, slots=True)
class Wanted:
    """One output that is asked for. ``binary`` ``None`` is whatever the request says for all."""

    name: str
    binary: bool | None = None
    classes: int = 0


@dataclass(frozen=True, slots=True)
class InferRequest:
    """``outputs`` ``None`` is all of them. ``priority`` 0 and ``timeout`` 0 are the server's choice."""

    id: str
    inputs: dict[str, NDArray[Any]]
    outputs: tuple[Wanted, ...] | None
    binary: bool
    priority: int = 0
    timeout: float = 0.0

    def options(self, given: Options) -> Options:
        """Return what the caller may have: to wait longer than others or less long, never to pass them or the deadline.

        Triton's levels count from 1, the most urgent; 1 and 2 are this server's normal and background work.
        """
        deadline = given.deadline
        if self.timeout:
            asked = time.perf_counter() + self.timeout
            deadline = asked if deadline is None else min(asked, deadline)
        return replace(given, priority=max(given.priority, self.priority), deadline=deadline)


def _document(sent: Sent) -> object:
    """The JSON of a request. Raises ``json-malformed``, which names the header where binary tensors explain it."""
    head = bytes(sent.head)
    try:
        return parse_json(head, MAX_VALUES)
    except Problem as problem:
        if problem.code != "json-malformed" or b'"binary_data_size"' not in head:
            raise
        said = "is missing" if sent.raw is None else f"is {len(head):,}, which is not where it ends"
        raise Problem(
            Kind.MALFORMED,
            "json-malformed",
            "The JSON does not end where it should",
            f"It names binary tensors, and the header Inference-Header-Content-Length {said}.",
            remedy="Set Inference-Header-Content-Length to the length in bytes of the JSON that the body begins with.",
        ) from None


def parse(sent: Sent, card: Card) -> InferRequest:
    """The request in ``sent``, for the model of ``card``; raises ``request-*`` and ``tensor-*`` problems."""
    if sent.raw is not None and not sent.head:
        return _whole_body(sent.raw, card)

    document = _document(sent)
    if not isinstance(document, dict):
        raise _malformed("It is no object.")

    parameters = _parameters(document, "the request")
    if parameters.get("sequence_id"):
        raise _malformed("`sequence_id` needs a stateful model; there is none.")

    return InferRequest(
        id=_text(document.get("id", ""), "id"),
        inputs=_inputs(document.get("inputs"), sent.raw),
        outputs=_outputs(document.get("outputs")),
        binary=_flag(parameters.get("binary_data_output", False), "binary_data_output"),
        priority=_count(parameters.get("priority", 0), "priority"),
        timeout=_count(parameters.get("timeout", 0), "timeout") * _MICROSECOND,
    )


def _inputs(items: object, raw: memoryview | None) -> dict[str, NDArray[Any]]:
    if not isinstance(items, list) or not items or len(items) > MAX_TENSORS:
        raise _malformed(f"`inputs` is not an array of 1 to {MAX_TENSORS} tensors.")

    inputs: dict[str, NDArray[Any]] = {}
    position = 0
    for item in items:
        name = _name(item, "inputs")
        if name in inputs:
            raise _malformed(f"Input {name[:80]!r} is there twice.")
        dtype = dtype_of(item.get("datatype"), name)
        shape = shape_of(item.get("shape"), name)
        size = _tensor_parameters(item, name).get("binary_data_size")
        if size is None:
            inputs[name] = from_json(item.get("data"), dtype, shape, name)
            continue
        if "data" in item:
            raise wrong(name, "tensor-size", "It has both `data` and binary_data_size.", "Send one of them.")
        size = _count(size, "binary_data_size")
        if raw is None or position + size > len(raw):
            raise wrong(
                name,
                "tensor-size",
                f"{size:,} bytes were announced, {0 if raw is None else len(raw) - position:,} are there.",
                "Set Inference-Header-Content-Length, and send the tensors behind the JSON in the order of `inputs`.",
            )
        inputs[name] = from_bytes(raw[position : position + size], dtype, shape, name)
        position += size

    if raw is not None and position != len(raw):
        raise _malformed(f"{len(raw) - position:,} bytes follow the last tensor.")

    return inputs


def _whole_body(raw: memoryview, card: Card) -> InferRequest:
    """A body without any JSON: the data of the model's only input, one row, whose free axis is what fits."""
    if len(card.inputs) != 1:
        raise _malformed(f"A body without JSON needs a model with one input; {card.name!r} has {len(card.inputs)}.")

    spec = card.inputs[0]
    dtype = dtype_of(spec.datatype, spec.name)
    rest = spec.shape[1:] if spec.shape[:1] == (-1,) else spec.shape
    batch = spec.shape[: len(spec.shape) - len(rest)] and (1,)
    if spec.datatype == "BYTES":
        raw = memoryview(len(raw).to_bytes(4, "little") + raw)
        rest = tuple(1 if size == -1 else size for size in rest)
    elif rest.count(-1) == 1:
        known = math.prod(size for size in rest if size != -1) * dtype.itemsize
        rest = tuple(len(raw) // known if size == -1 and known else size for size in rest)

    if -1 in rest:
        raise _malformed(f"The shape of {spec.name!r} cannot be told from the size of the body.")

    tensor = from_bytes(raw, dtype, (*batch, *rest), spec.name)
    return InferRequest("", {spec.name: tensor}, None, binary=True)


def _outputs(items: object) -> tuple[Wanted, ...] | None:
    if items is None or items == []:
        return None
    if not isinstance(items, list) or len(items) > MAX_TENSORS:
        raise _malformed(f"`outputs` is not an array of at most {MAX_TENSORS} objects.")

    wanted: dict[str, Wanted] = {}
    for item in items:
        name = _name(item, "outputs")
        if name in wanted:
            raise _malformed(f"Output {name[:80]!r} is asked for twice.")
        parameters = _tensor_parameters(item, name)
        binary = parameters.get("binary_data")
        wanted[name] = Wanted(
            name,
            binary=None if binary is None else _flag(binary, "binary_data"),
            classes=_count(parameters.get("classification", 0), "classification"),
        )

    return tuple(wanted.values())


def _tensor_parameters(item: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    parameters = _parameters(item, f"tensor {name[:80]!r}")
    if any(key in parameters for key in _SHARED):
        raise wrong(name, "tensor-shared", "Shared memory is not supported.", "Send the data in the request.")
    return parameters


def _name(item: object, place: str) -> str:
    name = item.get("name") if isinstance(item, dict) else None
    if not isinstance(name, str) or not name:
        raise _malformed(f"An entry of `{place}` is not an object with a name.")
    return name


def _parameters(holder: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise _malformed(f"`parameters` of {where} is not an object.")
    return parameters


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise _malformed(f"`{name}` is not text.")
    return value


def _flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise _malformed(f"`{name}` is neither true nor false.")
    return value


def _count(value: object, name: str) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise _malformed(f"`{name}` is not a whole number from 0.")
    return value


def _malformed(detail: str) -> Problem:
    return Problem(
        Kind.INVALID,
        "request-invalid",
        "The inference request is wrong",
        detail,
        remedy="See the Open Inference Protocol, POST v2/models/{model}/infer.",
    )
