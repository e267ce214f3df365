"""The generated configuration, read back by Triton's own schema."""

from __future__ import annotations

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from models.catalog.card import Batching, Card, Licence, TensorSpec
from models.triton_config import config_pbtxt


def _config(
    inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], batching: Batching | None = None
) -> model_config_pb2.ModelConfig:
    card = Card(
        name="tiny-1.0_x",
        task="tensor",
        family="test",
        title="",
        description="",
        inputs=inputs,
        outputs=outputs,
        batching=batching or Batching(),
        licence=Licence(spdx="MIT"),
    )
    return text_format.Parse(config_pbtxt(card), model_config_pb2.ModelConfig())


def _spec(name: str, *shape: int, datatype: str = "FP32") -> TensorSpec:
    return TensorSpec.model_validate({"name": name, "datatype": datatype, "shape": shape})


def test_batched_model_leaves_the_batch_axis_to_triton() -> None:
    config = _config((_spec("image", -1, 3, 32, 32),), (_spec("logits", -1, 5),), Batching(max_batch_size=8))
    assert (config.name, config.backend, config.max_batch_size) == ("tiny-1.0_x", "onnxruntime", 8)
    assert list(config.input[0].dims) == [3, 32, 32] and list(config.output[0].dims) == [5]
    assert config.HasField("dynamic_batching") and not config.HasField("version_policy")


def test_unbatched_model_keeps_its_shapes() -> None:
    config = _config((_spec("x", 1, 4),), (_spec("y", 1, 2),))
    assert config.max_batch_size == 0 and list(config.input[0].dims) == [1, 4]
    assert not config.HasField("dynamic_batching")


def test_row_without_axes_is_reshaped() -> None:
    config = _config((_spec("x", -1),), (_spec("y", -1, 2),))
    assert list(config.input[0].dims) == [1] and config.input[0].HasField("reshape")


@pytest.mark.parametrize("datatype", ["BYTES", "BOOL", "INT64", "FP16", "UINT8"])
def test_datatypes_are_tritons(datatype: str) -> None:
    config = _config((_spec("x", -1, 1, datatype=datatype),), (_spec("y", -1, 1),))
    expected = {"BYTES": "STRING"}.get(datatype, datatype)
    assert config.input[0].data_type == model_config_pb2.DataType.Value(f"TYPE_{expected}")


def test_delay_is_passed_on() -> None:
    config = _config((_spec("x", -1, 1),), (_spec("y", -1, 1),), Batching(max_delay_us=500))
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
