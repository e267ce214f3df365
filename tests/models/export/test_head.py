"""An encoder with a new head answers with the old features and the new logits, and carries no dead weight."""

import numpy as np
import onnx
import onnxruntime
import pytest

from models.errors import ModelError
from models.export.head import append_linear_head
from tests.support import tiny_models

RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((3, tiny_models.FEATURES)).astype(np.float32)
BIAS = RNG.standard_normal(3).astype(np.float32)


@pytest.fixture
def encoder(tmp_path):
    path = tmp_path / "encoder.onnx"
    path.write_bytes(tiny_models.classifier())
    return path


def run(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, {"image": images}), strict=True))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("batch", [1, 5])
def test_logits_are_the_heads_on_the_same_features(encoder, tmp_path, normalize, batch):
    images = RNG.standard_normal((batch, 3, tiny_models.IMAGE_SIZE, tiny_models.IMAGE_SIZE)).astype(np.float32)
    append_linear_head(encoder, "features", WEIGHT, BIAS, tmp_path / "new.onnx", normalize=normalize)
    old, new = run(encoder, images), run(tmp_path / "new.onnx", images)
    np.testing.assert_array_equal(new["features"], old["features"])
    features = old["features"]
    if normalize:
        features = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(new["logits"], features @ WEIGHT.T + BIAS, rtol=1e-4, atol=1e-5)


def test_the_old_head_is_gone(encoder, tmp_path):
    append_linear_head(encoder, "features", WEIGHT, BIAS, tmp_path / "new.onnx")
    assert "fc" not in [weight.name for weight in onnx.load(tmp_path / "new.onnx").graph.initializer]


def test_other_outputs_stay_where_they_are_kept(tmp_path):
    path = tmp_path / "looking.onnx"
    path.write_bytes(tiny_models.looking())
    images = RNG.standard_normal((2, 3, 32, 48)).astype(np.float32)
    append_linear_head(path, "features", WEIGHT, BIAS, tmp_path / "new.onnx", keep=["modulation"])
    old, new = run(path, images), run(tmp_path / "new.onnx", images)
    assert list(new) == ["logits", "features", "modulation"] and new["logits"].shape == (2, 3)
    np.testing.assert_array_equal(new["modulation"], old["modulation"])
    append_linear_head(path, "features", WEIGHT, BIAS, tmp_path / "bare.onnx")
    assert list(run(tmp_path / "bare.onnx", images)) == ["logits", "features"]
    assert "grey" not in [weight.name for weight in onnx.load(tmp_path / "bare.onnx").graph.initializer]
    with pytest.raises(ModelError, match="no output 'heat'"):
        append_linear_head(path, "features", WEIGHT, BIAS, tmp_path / "new.onnx", keep=["heat"])


def test_a_head_that_does_not_fit_is_refused_with_both_widths(encoder, tmp_path):
    with pytest.raises(ModelError, match=r"takes 5 features.*gives 8"):
        append_linear_head(encoder, "features", np.ones((3, 5), np.float32), BIAS, tmp_path / "new.onnx")
    with pytest.raises(ModelError, match="no output 'pooling'"):
        append_linear_head(encoder, "pooling", WEIGHT, BIAS, tmp_path / "new.onnx")
