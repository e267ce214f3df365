"""The generated configuration, read back by Triton's own schema."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from models.catalog.card import Batching, Card, Engine, Licence, TensorSpec, TextPreprocess
from models.catalog.geometry import ImagePreprocess, ShorterSide
from models.repository.triton_config import config_pbtxt


def _config(
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    batching: Batching | None = None,
    **fields: Any,
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
        **fields,
    )
    return text_format.Parse(config_pbtxt(card), model_config_pb2.ModelConfig())


def _spec(name: str, *shape: int, datatype: str = "FP32") -> TensorSpec:
    return TensorSpec.model_validate({"name": name, "datatype": datatype, "shape": shape})


def test_batched_model_leaves_the_batch_axis_to_triton() -> None:
    config = _config((_spec("image", -1, 3, 32, 32),), (_spec("logits", -1, 5),), Batching(max_batch_size=8))
    assert (config.name, config.backend, config.max_batch_size) == ("tiny-1.0_x", "onnxruntime", 8)
    assert list(config.input[0].dims) == [3, 32, 32] and list(config.output[0].dims) == [5]
    assert config.HasField("dynamic_batching") and config.version_policy.latest.num_versions == 1


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


def test_one_file_is_for_processors_and_gpus() -> None:
    config = _config((_spec("x", -1, 1),), (_spec("y", -1, 1),), engine=Engine(instances=3))
    (group,) = config.instance_group
    assert (group.kind, group.count) == (model_config_pb2.ModelInstanceGroup.KIND_AUTO, 3)
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert (accelerator.name, dict(accelerator.parameters)) == ("cuda", {"cudnn_conv_algo_search": "HEURISTIC"})
    assert not config.optimization.execution_accelerators.cpu_execution_accelerator


def test_tensorrt_is_asked_for_by_the_card_and_warmed_up_at_both_ends() -> None:
    engine = Engine(gpu="tensorrt", precision="fp16")
    config = _config((_spec("x", -1, 4),), (_spec("y", -1, 1),), Batching(max_batch_size=8), engine=engine)
    first, second = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert (first.name, second.name) == ("tensorrt", "cuda")
    assert first.parameters["precision_mode"] == "FP16" and first.parameters["trt_engine_cache_enable"] == "true"
    assert [sample.batch_size for sample in config.model_warmup] == [1, 8]


@pytest.mark.parametrize("batching", [Batching(), Batching(max_delay_us=500, max_queue=3)])
def test_nothing_is_said_of_queues_that_makes_triton_stall(batching: Batching) -> None:
    config = _config((_spec("x", -1, 1),), (_spec("y", -1, 1),), batching)
    assert not config.dynamic_batching.HasField("default_queue_policy")
    assert config.dynamic_batching.priority_levels == 0 and not config.dynamic_batching.priority_queue_policy


def test_threads_are_those_of_the_card() -> None:
    tensors = ((_spec("x", -1, 1),), (_spec("y", -1, 1),))
    assert not _config(*tensors).parameters
    config = _config(*tensors, engine=Engine(intra_op_threads=2))
    assert config.parameters["intra_op_thread_count"].string_value == "2"


def test_warm_up_of_whole_pictures_has_the_size_of_a_square_one() -> None:
    form = ShorterSide(size=100, max_size=200, multiple=32)
    config = _config((_spec("image", -1, 3, -1, -1),), (_spec("y", -1, 1),), image=form)
    assert list(config.model_warmup[0].inputs["image"].dims) == [3, 128, 128]


def test_warm_up_has_the_sizes_that_preprocessing_makes() -> None:
    image = _config((_spec("image", -1, 3, -1, -1),), (_spec("y", -1, 1),), image=ImagePreprocess(size=64))
    (sample,) = image.model_warmup
    assert list(sample.inputs["image"].dims) == [3, 64, 64] and sample.inputs["image"].zero_data
    names = ("input_ids", "attention_mask")
    text = _config(
        tuple(_spec(name, -1, -1, datatype="INT64") for name in names),
        (_spec("y", -1, 1),),
        text=TextPreprocess(max_length=77, padding="max"),
    )
    (sample,) = text.model_warmup
    assert {name: list(sample.inputs[name].dims) for name in names} == {name: [77] for name in names}


def test_a_size_that_nobody_knows_is_not_guessed() -> None:
    assert not _config((_spec("x", -1, -1),), (_spec("y", -1, 1),)).model_warmup


def test_names_may_hold_anything() -> None:
    config = _config((_spec('a"b\\é', -1, 1),), (_spec("y", -1, 1),))
    assert config.input[0].name == 'a"b\\é' and list(config.model_warmup[0].inputs) == ['a"b\\é']
