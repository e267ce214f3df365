"""Frames between gateways and the torch worker: a JSON header, then the bytes of arrays, bounded before they are read.

First both lengths (``!I`` and ``!Q``), then the header, then the arrays one after another, each padded to ``ALIGNMENT``
so that it can be used where it lies. The header's ``tensors`` says name, element type, shape and bytes of each. Arrays
are little-endian, as on every machine that runs PyTorch.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from models.catalog.card import DataType
from services.runtime.protocol import Tensor
from services.runtime.tensors import DTYPES

ALIGNMENT = 64
MAX_HEADER = 1 << 20
MAX_ARRAYS = 512 << 20
"""Bytes of all arrays of one frame."""

_SIZES = struct.Struct("!IQ")
_LENGTH = struct.Struct("<I")
_NAMES: dict[np.dtype[Any], DataType] = {dtype: name for name, dtype in DTYPES.items()}


class FrameError(Exception):
    """The other side does not speak this protocol, or says more than one frame may."""


@dataclass(frozen=True, slots=True)
class Frame:
    """``header`` without ``tensors``, which have become arrays that can be written to."""

    header: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)


def encode(header: Mapping[str, object], tensors: Mapping[str, Tensor] | None = None) -> bytes:
    """One frame, with a copy of the arrays. Raises :class:`FrameError` where they are more than a frame may hold.

    >>> encode({"op": "cancel", "id": 3})[12:]
    b'{"op": "cancel", "id": 3, "tensors": []}'
    """
    described: list[tuple[str, str, tuple[int, ...], int]] = []
    pieces: list[bytes | memoryview] = []
    total = 0
    for name, array in (tensors or {}).items():
        data = _packed(array)
        described.append((name, _NAMES[array.dtype], array.shape, data.nbytes))
        padding = -data.nbytes % ALIGNMENT
        pieces += [data, bytes(padding)]
        total += data.nbytes + padding

    if total > MAX_ARRAYS:
        raise FrameError(f"{total:,} bytes of arrays in one message, where {MAX_ARRAYS:,} are the most")

    text = json.dumps({**header, "tensors": described}).encode()
    return b"".join([_SIZES.pack(len(text), total), text, *pieces])


async def read(reader: asyncio.StreamReader, *, max_header: int = MAX_HEADER, max_arrays: int = MAX_ARRAYS) -> Frame:
    """The next frame. Raises :class:`FrameError`, and ``IncompleteReadError`` at the end of the stream."""
    header_size, arrays_size = _SIZES.unpack(await reader.readexactly(_SIZES.size))
    if header_size > max_header or arrays_size > max_arrays:
        told, most = f"{header_size:,} and {arrays_size:,}", f"{max_header:,} and {max_arrays:,}"
        raise FrameError(f"a message of {told} bytes (header and arrays), where {most} are the most")

    try:
        header = json.loads(await reader.readexactly(header_size))
        described = header.pop("tensors")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FrameError("a message without a readable header") from error

    # A bytearray, since PyTorch and services write into what they are given.
    arrays = memoryview(bytearray(await reader.readexactly(arrays_size)))
    try:
        return Frame(header, dict(_arrays(described, arrays)))
    except (ValueError, KeyError, TypeError) as error:
        raise FrameError(f"a message whose arrays are not as its header says: {error}") from error


def _arrays(described: list[list[Any]], data: memoryview) -> Iterator[tuple[str, Tensor]]:
    begin = 0
    for name, datatype, shape, size in described:
        dtype, count = DTYPES[datatype], prod(shape)
        if not isinstance(name, str) or any(not isinstance(one, int) or one < 0 for one in shape) or size < 0:
            raise ValueError("a name is no text, or a size no number")
        part = data[begin : begin + size]
        if len(part) != size:
            raise ValueError(f"{name!r} ends beyond the message")
        flat = _texts(part, count) if datatype == "BYTES" else np.frombuffer(part, dtype)
        yield name, flat.reshape(shape)
        begin += size + -size % ALIGNMENT
    if begin != len(data):
        raise ValueError("bytes are left over")


def _packed(array: Tensor) -> memoryview:
    if array.dtype == object:
        texts = [bytes(one) for one in array.reshape(-1)]
        return memoryview(b"".join(piece for text in texts for piece in (_LENGTH.pack(len(text)), text)))
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _texts(data: memoryview, count: int) -> Tensor:
    """``BYTES``: each text after its length."""
    if count * _LENGTH.size > len(data):
        raise ValueError("fewer texts than the shape says")

    found = np.empty(count, object)
    begin = 0
    for index in range(count):
        end = begin + _LENGTH.size
        length = _LENGTH.unpack(data[begin:end])[0] if end <= len(data) else len(data)
        if end + length > len(data):
            raise ValueError("a text ends beyond the message")
        found[index] = bytes(data[end : end + length])
        begin = end + length

    if begin != len(data):
        raise ValueError("bytes are left over after the texts")

    return found
