"""Tensor elements survive the way through the protocol, and what is wrong with them is said without allocating."""

from __future__ import annotations

import tracemalloc

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from gateway.oip.elements import datatype_of, dtype_of, from_bytes, from_json, shape_of, to_bytes, to_json
from gateway.oip.infer_response import classified
from services.errors import Problem
from services.runtime.tensors import DTYPES

NUMERIC = [name for name in DTYPES if name != "BYTES"]
shapes = hnp.array_shapes(min_dims=1, max_dims=3, max_side=4)


@given(st.data(), st.sampled_from(NUMERIC), shapes)
def test_raw_bytes_come_back_as_they_went(data: st.DataObject, datatype: str, shape: tuple[int, ...]) -> None:
    array = data.draw(hnp.arrays(DTYPES[datatype], shape))
    assert datatype_of(array) == datatype
    raw = bytes(to_bytes(array))
    assert raw == array.tobytes()
    back = from_bytes(memoryview(raw), dtype_of(datatype, "x"), shape, "x")
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()


@given(st.data(), st.sampled_from(NUMERIC), shapes)
def test_json_comes_back_as_it_went(data: st.DataObject, datatype: str, shape: tuple[int, ...]) -> None:
    elements = hnp.from_dtype(DTYPES[datatype], allow_nan=False, allow_infinity=False)
    array = data.draw(hnp.arrays(DTYPES[datatype], shape, elements=elements))
    sent = orjson.loads(orjson.dumps(to_json(array, "x"), option=orjson.OPT_SERIALIZE_NUMPY))
    for form in (sent, orjson.loads(orjson.dumps(array.tolist()))):
        back = from_json(form, dtype_of(datatype, "x"), shape, "x")
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=6))
def test_texts_are_framed_as_the_official_client_frames_them(texts: list[bytes]) -> None:
    array = np.empty(len(texts), object)
    array[:] = texts
    assert bytes(to_bytes(array)) == serialize_byte_tensor(array).item()
    assert list(deserialize_bytes_tensor(bytes(to_bytes(array)))) == texts
    back = from_bytes(memoryview(bytes(to_bytes(array))), DTYPES["BYTES"], (len(texts),), "x")
    assert back.tolist() == texts


def test_raw_tensors_are_not_copied() -> None:
    raw = np.arange(6, dtype=np.float32)
    assert np.shares_memory(from_bytes(raw.view(np.uint8).data, raw.dtype, (2, 3), "x"), raw)
    assert np.shares_memory(np.frombuffer(to_bytes(raw), np.float32), raw)


def test_nan_is_null_in_an_answer_in_json() -> None:
    sent = orjson.dumps(to_json(np.array([1, np.nan, np.inf], np.float32), "x"), option=orjson.OPT_SERIALIZE_NUMPY)
    assert sent == b"[1.0,null,null]"


def test_any_byte_but_zero_is_true() -> None:
    back = from_bytes(memoryview(b"\x00\x01\x02\xff"), DTYPES["BOOL"], (4,), "x")
    assert back.view(np.uint8).tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("data", "datatype", "shape", "code"),
    [
        ([1, 2, 3], "FP32", (2, 2), "tensor-size"),
        ([[1, 2], [3]], "FP32", (2, 2), "tensor-size"),
        ([[1, 2], [3, 4]], "FP32", (4, 1), "tensor-size"),
        ([[1, 2], 3, 4], "FP32", (2, 2), "tensor-size"),
        ([[[1]], [[2]]], "FP32", (2,), "tensor-value"),
        ([1], "FP32", (10**12, 10**12), "tensor-size"),
        (["1"], "FP32", (1,), "tensor-value"),
        ([True], "FP32", (1,), "tensor-value"),
        ([None], "FP32", (1,), "tensor-value"),
        ([1.5], "INT32", (1,), "tensor-value"),
        ([1], "BOOL", (1,), "tensor-value"),
        ([1], "BYTES", (1,), "tensor-value"),
        ([{}], "FP32", (1,), "tensor-value"),
        ([300], "UINT8", (1,), "tensor-value"),
        ([-1], "UINT64", (1,), "tensor-value"),
        ([2**63], "INT64", (1,), "tensor-value"),
        ([1e39], "FP32", (1,), "tensor-value"),
        ([70000], "FP16", (1,), "tensor-value"),
        (None, "FP32", (1,), "tensor-missing"),
        ("abc", "BYTES", (1,), "tensor-missing"),
        ({"0": 1}, "FP32", (1,), "tensor-missing"),
    ],
)
def test_wrong_json_data_is_refused(data: object, datatype: str, shape: tuple[int, ...], code: str) -> None:
    with pytest.raises(Problem) as caught:
        from_json(data, DTYPES[datatype], shape, "x")  # type: ignore[index]
    assert caught.value.code == code
    assert "'x'" in caught.value.detail


@pytest.mark.parametrize(
    ("data", "datatype", "shape"),
    [
        (b"\0" * 7, "FP32", (2,)),
        (b"\0" * 8, "FP32", (1,)),
        (b"", "FP32", (10**9, 10**9)),
        (b"\0" * 4, "FP32", (2**62, 2**62)),
        (b"\x05\0\0\0abc", "BYTES", (1,)),
        (b"\x01\0\0", "BYTES", (1,)),
        (b"\x01\0\0\0a", "BYTES", (2,)),
        (b"\x01\0\0\0a\x01\0\0\0b", "BYTES", (1,)),
        (b"\xff\xff\xff\xff", "BYTES", (1,)),
        (b"\0\0\0\0" * 3, "BYTES", (10**15,)),
    ],
)
def test_wrong_sizes_are_refused_without_allocating(data: bytes, datatype: str, shape: tuple[int, ...]) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Problem) as caught:
            from_bytes(memoryview(data), DTYPES[datatype], shape, "x")  # type: ignore[index]
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert caught.value.code == "tensor-size"


@pytest.mark.parametrize("shape", [None, 3, "3", [1.0], [True], [-1], [None], [[1]], [1] * 17, {"0": 1}])
def test_wrong_shapes_are_refused(shape: object) -> None:
    with pytest.raises(Problem) as caught:
        shape_of(shape, "x")
    assert caught.value.code == "tensor-shape"


@pytest.mark.parametrize("datatype", ["BF16", "FP8", "fp32", "", None, 1, ["FP32"], "FP32\0"])
def test_unknown_datatypes_are_refused_with_those_that_there_are(datatype: object) -> None:
    with pytest.raises(Problem) as caught:
        dtype_of(datatype, "x")
    assert caught.value.code == "tensor-type"
    assert "FP16" in str(caught.value.remedy)


def test_classes_are_ranked_with_ties_in_order_and_labels_where_there_are_some() -> None:
    scores = np.array([[0.5, 2.0, 0.5, -1.0], [9.0, 9.0, 9.0, 9.0]], np.float32)
    assert classified(scores, 3, ("a", "b"), "x").tolist() == [
        [b"2.000000:1:b", b"0.500000:0:a", b"0.500000:2"],
        [b"9.000000:0:a", b"9.000000:1:b", b"9.000000:2"],
    ]
    assert classified(scores, 99, (), "x").shape == (2, 4)
    assert classified(np.array([[1, 200, 3]], np.uint8), 1, (), "x").tolist() == [[b"200:1"]]
    assert classified(np.array([[np.nan, 1.0]], np.float32), 1, (), "x").tolist() == [[b"1.000000:1"]]
    assert classified(np.zeros((2, 2, 2), np.int64), 1, (), "x").tolist() == [[b"0:0"], [b"0:0"]]
    with pytest.raises(Problem, match="no scores"):
        classified(np.array([[b"a"]], object), 1, (), "x")
