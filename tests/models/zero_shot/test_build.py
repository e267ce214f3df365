"""The data file is made from the pulled models, and what cannot be built says why."""

import json

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save_model
from safetensors.numpy import load

from models.catalog.catalog import Catalog
from models.errors import ModelError
from models.family import Build
from models.progress import silent
from models.zero_shot.build import build, last_layer, read_shifts
from models.zero_shot.fit import AXES
from services.classification.weight_prediction import Predictor
from tests.support import tiny_models, tiny_nouns


def linear(path, *, transposed, operation="Gemm"):
    weight = np.arange(12, dtype=np.float32).reshape(3, 4)
    held = [
        numpy_helper.from_array(weight if transposed else weight.T.copy(), "w"),
        numpy_helper.from_array(np.ones(3, np.float32), "b"),
    ]
    attributes = {"transB": int(transposed)} if operation == "Gemm" else {}
    inputs = ["features", "w", "b"] if operation == "Gemm" else ["features", "w"]
    node = helper.make_node(operation, inputs, ["logits"], **attributes)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "linear",
        [value("features", TensorProto.FLOAT, ["N", 4])],
        [value("logits", TensorProto.FLOAT, ["N", 3])],
        held,
    )
    save_model(helper.make_model(graph), path)
    return weight


@pytest.mark.parametrize("transposed", [True, False])
def test_the_last_layer_is_read_either_way_round(tmp_path, transposed):
    expected = linear(tmp_path / "model.onnx", transposed=transposed)
    weight, bias = last_layer(tmp_path / "model.onnx", "logits")
    assert np.array_equal(weight, expected)
    assert bias.tolist() == [1, 1, 1]


def test_a_network_without_a_last_layer_is_refused(tmp_path):
    linear(tmp_path / "model.onnx", transposed=False, operation="MatMul")
    with pytest.raises(ModelError, match="fully connected"):
        last_layer(tmp_path / "model.onnx", "logits")


def test_the_models_it_is_made_of_must_be_there(tmp_path):
    entry = Catalog.read().entry("photo-zero-shot")
    job = Build(entry.card, entry.options, {}, tmp_path / "empty", tmp_path, silent)
    with pytest.raises(ModelError, match="efficientnet-lite2"):
        build(job)


def test_shifts_end_at_the_size_that_needs_none():
    sides, shifts = read_shifts()
    assert (np.diff(sides) > 0).all()
    assert np.abs(shifts[-1]).max() == 0 < np.abs(shifts[0]).max()


@pytest.mark.weights
def test_it_is_built_from_the_default_models(default_models, tmp_path):
    entry = Catalog.read().entry("photo-zero-shot")
    files = build(Build(entry.card, entry.options, {}, default_models, tmp_path, silent))
    assert {"prediction.safetensors", "LICENSE.WordNet.txt", "LICENSE.Apache-2.0.txt"} == files.keys()
    data = load(files["prediction.safetensors"])
    assert data["coefficients"].shape == (1000, AXES)
    predictor = Predictor(data, entry.card.pipeline.parameters)
    text = data["class_texts"].astype(np.float32)
    rows = predictor.rows(["tench", "goldfish"], text[:2])
    assert rows[:, -1].tolist() == data["class_synsets"][:2].tolist()
    # Each predicted row is closer to its own class than to any other.
    closest = (rows[:, :-1] @ data["class_rows"].astype(np.float32).T).argmax(axis=1)
    assert closest.tolist() == [0, 1]


def test_hidden_classes_leave_no_trace():
    """What a method is measured on must not be in what it was fitted on."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((5, 8)).astype(np.float32)
    texts = rng.standard_normal((5, 6)).astype(np.float32)
    own = tiny_nouns.classifier(weight, texts).only(np.array([0, 2, 4]))
    assert list(own.names) == ["cat", "fish", "car"]
    assert own.weight.shape == (3, 8)
    assert own.classes.tolist() == [0, 2, 4]


def test_the_card_says_what_it_is_not():
    card = Catalog.read().entry("photo-zero-shot").card
    assert "Not CLIP" in card.description
    assert json.dumps(card.pipeline.parameters)
    assert tiny_models.LABELS  # the tiny classifier's labels are those of the tiny nouns
    assert tiny_nouns.CLASSES == tiny_models.LABELS
