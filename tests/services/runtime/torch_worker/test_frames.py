"""Frames carry every element type as it is, and refuse what is too long or not as it says before they read it."""

from __future__ import annotations

import asyncio
import json
import struct

import numpy as np
import pytest

from services.runtime.protocol import Tensor
from services.runtime.tensors import DTYPES
from services.runtime.torch_worker import frames
from services.runtime.torch_worker.frames import Frame, FrameError


async def decoded(data: bytes, **limits: int) -> Frame:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return await frames.read(reader, **limits)


def raw(header: object, arrays: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("!IQ", len(text), len(arrays)) + text + arrays


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 5)])
async def test_every_element_type_arrives_as_it_was_sent_and_can_be_written_to(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    sent: dict[str, Tensor] = {}
    for name, dtype in DTYPES.items():
        numbers = rng.integers(0, 2, shape)
        if name == "BYTES":
            texts = np.empty(shape, object)
            texts[...] = b"a\0\xff"
            sent[name] = texts
        else:
            sent[name] = np.asarray(numbers, dtype)
    frame = await decoded(frames.encode({"id": 7}, sent))
    assert frame.header == {"id": 7}
    for name, array in sent.items():
        got = frame.tensors[name]
        assert got.dtype == array.dtype and got.shape == array.shape and np.array_equal(got, array)
        assert got.flags.writeable and got.flags.aligned


async def test_an_array_that_is_no_row_of_memory_arrives_in_its_order() -> None:
    array = np.arange(24, dtype=np.float32).reshape(4, 6).T[::2]
    frame = await decoded(frames.encode({}, {"x": array}))
    assert np.array_equal(frame.tensors["x"], array)


async def test_what_is_too_long_is_refused_before_it_is_read() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(struct.pack("!IQ", 10, frames.MAX_ARRAYS + 1))  # nothing follows: reading it would wait for ever
    with pytest.raises(FrameError, match="most"):
        await asyncio.wait_for(frames.read(reader), 5)
    with pytest.raises(FrameError):
        await decoded(struct.pack("!IQ", frames.MAX_HEADER + 1, 0))
    with pytest.raises(FrameError):
        await decoded(frames.encode({}, {"x": np.ones(1)}), max_arrays=0)


@pytest.mark.parametrize(
    "described",
    [
        [["x", "FP32", [2], 8]],  # nothing is there
        [["x", "FP32", [-1], 0]],
        [["x", "FP32", [1], 64]],  # the bytes do not fit the shape
        [["x", "FP99", [16], 64]],
        [["x", "FP32", [True], 64]],
        [["x", "FP32"]],
        [["x", "BYTES", [1 << 40], 64]],
        [[3, "FP32", [16], 64]],
        "x",
        7,
    ],
)
async def test_arrays_that_are_not_as_the_header_says_are_refused(described: object) -> None:
    arrays = b"" if described == [["x", "FP32", [2], 8]] else bytes(64)
    with pytest.raises(FrameError):
        await decoded(raw({"tensors": described}, arrays))


@pytest.mark.parametrize("header", [b"", b"{", b"[]", b"3", b"{}", b"\xff"])
async def test_a_header_that_cannot_be_read_is_refused(header: bytes) -> None:
    with pytest.raises(FrameError):
        await decoded(struct.pack("!IQ", len(header), 0) + header)
