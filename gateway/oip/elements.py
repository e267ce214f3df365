"""Tensor elements between the protocol and memory: JSON values, raw little-endian bytes, length-prefixed texts.

Raw bytes become arrays without a copy. Every size is checked with plain integers before anything is allocated, so a
shape of a million by a million costs nothing but its refusal.

JSON has no NaN and no infinity: a request that holds one is refused, in an answer they are ``null``. The binary form
carries them as they are. ``FP16`` goes through JSON as numbers; ``BF16``, which NumPy does not have, is refused.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.catalog.card import DataType
from services.errors import Kind, Problem
from services.runtime.tensors import DTYPES

MAX_RANK = 16

_DTYPES: Mapping[str, np.dtype[Any]] = {str(name): dtype for name, dtype in DTYPES.items()}
_DATATYPE = {dtype: name for name, dtype in DTYPES.items()}
_PYTHON_TYPES: dict[str, frozenset[type]] = {
    "b": frozenset({bool}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "f": frozenset({int, float}),
    "O": frozenset({str}),
}
_LENGTH = struct.Struct("<I")


def dtype_of(datatype: object, name: str) -> np.dtype[Any]:
    """The element type that the protocol calls ``datatype``."""
    dtype: np.dtype[Any] | None = _DTYPES.get(datatype) if isinstance(datatype, str) else None
    if dtype is None:
        raise wrong(
            name,
            "tensor-type",
            f"Datatype {str(datatype)[:40]!r} is not supported.",
            f"Use one of {', '.join(DTYPES)}.",
        )
    return dtype


def datatype_of(array: NDArray[Any]) -> DataType:
    """Return what the protocol calls the elements of ``array``."""
    return _DATATYPE[array.dtype]


def shape_of(shape: object, name: str) -> tuple[int, ...]:
    """A shape from JSON: whole numbers from 0."""
    if not isinstance(shape, list) or len(shape) > MAX_RANK or any(type(size) is not int or size < 0 for size in shape):
        raise wrong(name, "tensor-shape", f"The shape is {_shown(shape)}.", "Send an array of whole numbers from 0.")
    return tuple(shape)


def from_bytes(data: memoryview, dtype: np.dtype[Any], shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """A tensor over ``data`` itself, which has to have exactly the size that the shape asks for."""
    if dtype.kind == "O":
        return _texts(data, shape, name)

    wanted = math.prod(shape) * dtype.itemsize
    if len(data) != wanted:
        raise wrong(
            name,
            "tensor-size",
            f"{len(data):,} bytes were sent, shape {list(shape)} of {_DATATYPE[dtype]} has {wanted:,}.",
            "Send as many bytes as the shape says.",
        )

    if dtype == np.bool_:  # any byte but 0 is true; NumPy itself holds 0 and 1 only
        return np.not_equal(np.frombuffer(data, np.uint8), 0).reshape(shape)

    array: NDArray[Any] = np.frombuffer(data, dtype).reshape(shape)
    return array


def from_json(data: object, dtype: np.dtype[Any], shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """A tensor from a flat list, or from one nested as the shape is."""
    flat = _flat(data, shape, name)
    wanted = math.prod(shape)
    if len(flat) != wanted:
        raise wrong(
            name,
            "tensor-size",
            f"{len(flat):,} elements were sent, shape {list(shape)} has {wanted:,}.",
            "Send as many elements as the shape says.",
        )

    foreign = set(map(type, flat)) - _PYTHON_TYPES[dtype.kind]
    if foreign:
        shown = ", ".join(sorted("null" if kind is type(None) else kind.__name__ for kind in foreign))
        raise wrong(name, "tensor-value", f"The data of {_DATATYPE[dtype]} holds {shown}.", "Convert the elements.")

    if dtype.kind == "O":
        return _objects([text.encode() for text in flat], shape)

    try:
        with np.errstate(over="ignore"):
            array = np.array(flat, dtype)
    except OverflowError:
        array = None

    if array is None or (dtype.kind == "f" and not np.isfinite(array).all()):
        raise wrong(name, "tensor-value", f"A number is out of the range of {_DATATYPE[dtype]}.", "Use a wider type.")

    return array.reshape(shape)


def to_bytes(array: NDArray[Any]) -> bytes | memoryview:
    """The raw form of a tensor, without a copy where its memory is in order."""
    if array.dtype.kind == "O":
        return b"".join(part for text in array.flat for part in (_LENGTH.pack(len(text)), text))
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def to_json(array: NDArray[Any], name: str) -> NDArray[Any] | list[str]:
    """The flat JSON form: texts as strings, numbers as an array that orjson writes itself, NaN as ``null``."""
    if array.dtype.kind != "O":
        flat = np.ascontiguousarray(array).reshape(-1)
        return flat.astype(np.float32) if flat.dtype == np.float16 else flat
    try:
        return [text.decode() for text in array.flat]
    except UnicodeDecodeError:
        raise wrong(
            name, "tensor-value", "The texts of the output are not UTF-8.", "Ask for it with binary_data true."
        ) from None


def wrong(name: str, code: str, detail: str, remedy: str) -> Problem:
    return Problem(Kind.INVALID, code, "A tensor is wrong", f"Tensor {name[:80]!r}: {detail}", remedy=remedy)


def _texts(data: memoryview, shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """``BYTES``: each element is its length in four bytes, then its bytes."""
    texts: list[bytes] = []
    position, end, wanted = 0, len(data), math.prod(shape)
    while position < end and len(texts) < wanted:
        start = position + _LENGTH.size
        length = _LENGTH.unpack_from(data, position)[0] if start <= end else end
        position = start + length
        if position > end:
            raise wrong(
                name, "tensor-size", f"Element {len(texts)} is longer than the data.", "Prefix each with its length."
            )
        texts.append(bytes(data[start:position]))

    if len(texts) != wanted or position != end:
        held = len(texts) if position == end else f"more than {wanted}"
        raise wrong(
            name,
            "tensor-size",
            f"The data holds {held} elements, shape {list(shape)} has {wanted:,}.",
            "Send as many elements as the shape says.",
        )

    return _objects(texts, shape)


def _objects(values: list[bytes], shape: tuple[int, ...]) -> NDArray[Any]:
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)


def _flat(data: object, shape: tuple[int, ...], name: str) -> list[Any]:
    if not isinstance(data, list):
        raise wrong(name, "tensor-missing", "It has no data array.", "Send `data`, or binary_data_size and the bytes.")
    if not data or not isinstance(data[0], list):
        return data
    level = [data]
    for size in shape:
        if any(type(row) is not list or len(row) != size for row in level):
            raise wrong(name, "tensor-size", f"The data is not nested as {list(shape)} is.", "Send it flat.")
        level = list(chain.from_iterable(level))
    return level


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
