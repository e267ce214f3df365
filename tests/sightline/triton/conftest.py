"""One real tritonserver for the tests of this folder, over models of every form that a card can describe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.catalog.card import Batching
from tests.support import tiny_models
from tests.support.triton_server import TritonServer, triton


def fixed() -> bytes:
    """``x (2, 3)`` to ``y (3, 2)``: no batch axis."""
    nodes = [helper.make_node("Transpose", ["x"], ["y"])]
    return _model(nodes, [("x", [2, 3])], [("y", [3, 2])])


def row() -> bytes:
    """``x (N)`` to ``y (N, 2)``: rows without axes of their own."""
    two = numpy_helper.from_array(np.array([[1.0, 2.0]], np.float32), "two")
    axis = numpy_helper.from_array(np.array([1], np.int64), "axis")
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axis"], ["column"]),
        helper.make_node("Mul", ["column", "two"], ["y"]),
    ]
    return _model(nodes, [("x", ["N"])], [("y", ["N", 2])], [two, axis])


def _model(nodes: list, inputs: list, outputs: list, weights: list | None = None) -> bytes:  # type: ignore[type-arg]
    def value(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes, "g", [value(*one) for one in inputs], [value(*one) for one in outputs], weights or []
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    return bytes(model.SerializeToString())


@pytest.fixture(scope="session")
def triton_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tiny_models.add_all(tmp_path_factory.mktemp("triton") / "models")
    tiny_models.add_adder(root, "tiny-versions", offset=1, version="1")
    tiny_models.add_adder(root, "tiny-versions", offset=2, version="2")
    for name, model in (("tiny-fixed", fixed()), ("tiny-row", row())):
        tiny_models.write(
            root, tiny_models.card(name, model, batching=Batching(max_batch_size=8)), {"model.onnx": model}
        )
    pipeline = tiny_models.card("tiny-pipeline", pipeline={"kind": "none"}, task="classify")
    tiny_models.write(root, pipeline, {"data.txt": b"nothing that Triton could serve"})
    return root


@pytest.fixture(scope="session")
def triton_server(triton_repository: Path) -> Iterator[TritonServer]:
    with triton(triton_repository) as server:
        yield server
