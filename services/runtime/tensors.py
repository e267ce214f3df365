"""Checks tensors against a model's signature, and joins and splits them along the batch axis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from models.catalog.card import Card, DataType, TensorSpec
from services.errors import Problem
from services.runtime.problems import tensor_problem
from services.runtime.protocol import Tensor

DTYPES: dict[DataType, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(object),
}
"""Element types in memory, in the machine's byte order; ``BYTES`` are arrays of ``bytes`` objects."""

Shapes = tuple[tuple[int, ...], ...]


class Signature:
    """What a model takes and gives. ``batched``: every tensor has a free first axis, along which requests can join."""

    def __init__(self, card: Card) -> None:
        self.inputs = {spec.name: spec for spec in card.inputs}
        self.outputs = tuple(spec.name for spec in card.outputs)
        specs = (*card.inputs, *card.outputs)
        self.batched = bool(card.inputs) and all(spec.shape[:1] == (-1,) for spec in specs)
        self._checks = [(spec.name, DTYPES[spec.datatype], spec) for spec in card.inputs]

    def check(self, inputs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], int]:
        """The tensors in memory order, and how many rows they have (1 for a model without a batch axis).

        Values are not looked at: NaN and infinity are numbers that a model may well be given.
        Raises ``tensor-missing``, ``tensor-unknown``, ``tensor-type`` and ``tensor-shape``.
        """
        if len(inputs) != len(self._checks) or any(name not in self.inputs for name in inputs):
            raise self._wrong_names(inputs)

        checked: dict[str, Tensor] = {}
        rows = -1
        for name, dtype, spec in self._checks:
            array = inputs[name]
            if array.dtype != dtype:
                raise _wrong_type(spec, array)
            shape = array.shape
            if not _fits(shape, spec.shape):
                raise _wrong_shape(spec, shape)
            if self.batched:
                if rows not in (-1, shape[0]):
                    raise tensor_problem(
                        "tensor-shape",
                        "A tensor has the wrong shape",
                        f"Input {name!r} has {shape[0]} rows, another input has {rows}.",
                        "Send the same number of rows in every input.",
                    )
                rows = shape[0]
            checked[name] = array if array.flags.carray else np.require(array, requirements=["C", "A"])

        return checked, rows if self.batched else 1

    def check_outputs(self, names: Sequence[str] | None) -> tuple[str, ...]:
        """The outputs to compute: all when none is named. Raises ``tensor-unknown``."""
        if names is None:
            return self.outputs
        for name in names:
            if name not in self.outputs:
                raise tensor_problem(
                    "tensor-unknown",
                    "The model has no such tensor",
                    f"There is no output {name[:80]!r}.",
                    f"The outputs are {_listed(self.outputs)}.",
                )
        return tuple(names)

    def _wrong_names(self, inputs: Mapping[str, Tensor]) -> Problem:
        unknown = [name for name in inputs if name not in self.inputs]
        if unknown:
            return tensor_problem(
                "tensor-unknown",
                "The model has no such tensor",
                f"There is no input {unknown[0][:80]!r}.",
                f"The inputs are {_listed(self.inputs)}.",
            )

        missing = [name for name in self.inputs if name not in inputs]
        return tensor_problem(
            "tensor-missing",
            "An input is missing",
            f"Input {missing[0]!r} was not sent.",
            f"The inputs are {_listed(self.inputs)}.",
        )


def shapes_of(inputs: Mapping[str, Tensor]) -> Shapes:
    """Shapes without the batch axis, in the order of the signature: what has to be equal to join."""
    return tuple(array.shape[1:] for array in inputs.values())


def elements(shapes: Shapes) -> int:
    """Elements of one row, all inputs together."""
    return sum(prod(shape) for shape in shapes)


def chunks(inputs: Mapping[str, Tensor], rows: int, most: int) -> Iterator[tuple[dict[str, Tensor], int]]:
    """Cut into pieces of at most ``most`` rows, as even as possible (9 rows by 8 are 5 and 4). Views, no copies."""
    count = -(-rows // most)
    for index in range(count):
        begin, end = rows * index // count, rows * (index + 1) // count
        yield {name: array[begin:end] for name, array in inputs.items()}, end - begin


class Stacker:
    """Joins tensors along the batch axis into buffers that it keeps: fresh memory costs more than the copy.

    What it gives back is valid until the next call. One buffer an input, as large as the largest batch so far.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def stack(self, pieces: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """All pieces have the same names and, but for the first axis, shapes. A lone piece is given back as it is."""
        if len(pieces) == 1:
            return dict(pieces[0])
        return {name: self._join(name, [piece[name] for piece in pieces]) for name in pieces[0]}

    def _join(self, name: str, arrays: list[Tensor]) -> Tensor:
        first = arrays[0]
        shape = (sum(len(array) for array in arrays), *first.shape[1:])
        if first.dtype == object:
            return np.concatenate(arrays)
        needed = prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < needed:
            buffer = self._buffers[name] = np.empty(needed, first.dtype)
        joined = buffer[:needed].reshape(shape)
        np.concatenate(arrays, out=joined)
        return joined


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    if len(shape) != len(wanted):
        return False
    return all(size == want or (want == -1 and size > 0) for size, want in zip(shape, wanted, strict=True))


def _wrong_type(spec: TensorSpec, array: Tensor) -> Problem:
    return tensor_problem(
        "tensor-type",
        "A tensor has the wrong type",
        f"Input {spec.name!r} is {array.dtype.str}, the model takes {spec.datatype} ({DTYPES[spec.datatype].str}).",
        "Convert the tensor.",
    )


def _wrong_shape(spec: TensorSpec, shape: tuple[int, ...]) -> Problem:
    return tensor_problem(
        "tensor-shape",
        "A tensor has the wrong shape",
        f"Input {spec.name!r} is {list(shape)}, the model takes {list(spec.shape)} (-1: any size from 1).",
        "Send the tensor in that shape, the batch axis first.",
    )


def _listed(names: Sequence[str] | Mapping[str, object]) -> str:
    return ", ".join(repr(name) for name in names)
