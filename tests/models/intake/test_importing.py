"""A user's own ONNX model: what is taken, what is refused, and what the card says."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from models.catalog.card import Card, Task
from models.catalog.geometry import ImageGeometry, LongerSide, Native, ShorterSide
from models.errors import ModelError
from models.intake.importing import About, import_onnx
from models.intake.presets import preset
from models.repository.hashing import verify_version
from models.repository.reading import installed
from tests.support import tiny_models

WEIGHTS = "float[3,2] w = {1.0, -1.0, 0.5, 0.25, -0.75, 2.0}, int64[2] flat = {1, 3}, int64[1] first = {0}"
POOLED = "pooled = GlobalAveragePool(image) rows = Flatten(pooled)"


def _text(
    body: str = f"{POOLED} logits = MatMul(rows, w)",
    inputs: str = "float[N,3,8,8] image",
    outputs: str = "float[N,2] logits",
    opset: int = 17,
    domains: str = "",
) -> onnx.ModelProto:
    head = f'<ir_version: 8, opset_import: ["" : {opset}{domains}]>'
    return parser.parse_model(f"{head} g ({inputs}) => ({outputs}) <{WEIGHTS}> {{ {body} }}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    return tmp_path


def _save(folder: Path, model: onnx.ModelProto | bytes, name: str = "mine.onnx") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def _take(
    folder: Path,
    path: Path,
    task: Task = "classify",
    preprocess: str | ImageGeometry | None = "unit-8",
    about: About | None = None,
) -> Card:
    labels = folder / "labels.txt" if task == "classify" else None
    return import_onnx(path, "mine", task, folder / "r", labels=labels, preprocess=preprocess, about=about)


def _refused(folder: Path, model: onnx.ModelProto | bytes, complaint: str, **how: object) -> ModelError:
    """The refusal, after which the repository is as it was."""
    with pytest.raises(ModelError, match=complaint) as refusal:
        _take(folder, _save(folder, model), **how)  # type: ignore[arg-type]
    assert refusal.value.remedy
    assert not installed(folder / "r") and not list((folder / "r").glob(".*.writing"))
    return refusal.value


def _run(folder: Path, images: np.ndarray, output: str = "logits") -> np.ndarray:
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    (answer,) = session.run([output], {"image": images})
    return np.asarray(answer)


def _images(rows: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((rows, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("form", [ShorterSide(size=20, max_size=40, multiple=16), Native(multiple=8)], ids=repr)
def test_a_model_of_any_size_takes_whole_pictures(folder: Path, form: ImageGeometry) -> None:
    card = _take(folder, _save(folder, tiny_models.classifier(size=None, classes=2)), preprocess=form)
    assert card.image == form and card.inputs[0].shape == (-1, 3, -1, -1)


def test_a_model_of_one_size_takes_whole_pictures_in_a_square_only(folder: Path) -> None:
    fixed = tiny_models.classifier(size=32, classes=2)
    card = _take(folder, _save(folder, fixed), preprocess="whole-32")
    assert card.image == LongerSide(size=32)
    shutil.rmtree(folder / "r")
    _refused(folder, fixed, "gives pictures of many sizes", preprocess=LongerSide(size=32, multiple=32))


def test_a_map_of_where_an_imported_model_looked_has_its_role(folder: Path) -> None:
    card = _take(folder, _save(folder, tiny_models.looking()), "embed-image", about=About(output="features"))
    assert card.roles == {"embedding": "features", "modulation": "modulation"}


def test_classifier_is_served_with_what_its_owner_said(folder: Path) -> None:
    path = _save(folder, _text())
    card = _take(folder, path, about=About(title="Mine", licence="MIT", max_batch_size=4))
    assert (card.name, card.version, card.task, card.title, card.licence.spdx) == (
        "mine",
        "1",
        "classify",
        "Mine",
        "MIT",
    )
    assert card.image is not None and (card.image.input, card.image.size, card.image.mode) == ("image", 8, "squash")
    assert [spec.shape for spec in (*card.inputs, *card.outputs)] == [(-1, 3, 8, 8), (-1, 2)]
    assert (card.logits, card.label_set, card.batching.max_batch_size) == ("logits", "labels.txt", 4)
    (origin,) = card.provenance
    assert origin.source == "import:mine.onnx" and origin.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    written = folder / "r/mine/1"
    assert verify_version(written) == card and (written / "labels.txt").read_text() == "cat\ndog\n"
    assert (written / "model.onnx").read_bytes() == onnx.load(path).SerializeToString(deterministic=True)


def test_importing_again_is_the_next_version(folder: Path) -> None:
    path = _save(folder, _text())
    assert [_take(folder, path).version for _ in range(2)] == ["1", "2"]
    assert (folder / "r/mine/1/model.onnx").is_file()


def test_folder_in_tritons_layout_gives_its_highest_version(folder: Path) -> None:
    for version, opset in (("2", 16), ("10", 17), ("9", 15)):
        _save(folder, _text(opset=opset), f"theirs/{version}/model.onnx")
    _take(folder, folder / "theirs")
    assert onnx.load(folder / "r/mine/1/model.onnx").opset_import[0].version == 17
    with pytest.raises(ModelError, match=r"has no model\.onnx"):
        _take(folder, folder / "r")


def test_model_of_tiny_models_is_taken_with_its_features_beside(folder: Path) -> None:
    (folder / "labels.txt").write_text("\n".join(tiny_models.LABELS))
    card = _take(folder, _save(folder, tiny_models.classifier(size=None)), preprocess="imagenet-32")
    assert [spec.shape for spec in card.inputs] == [(-1, 3, -1, -1)] and len(card.outputs) == 2


def test_image_encoder_is_taken_without_labels(folder: Path) -> None:
    model = _text(f"{POOLED} embedding = MatMul(rows, w)", outputs="float[N,2] embedding")
    card = _take(folder, _save(folder, model), "embed-image")
    assert card.embedding == "embedding" and card.logits is None and card.label_set is None


def test_tensor_model_is_taken_as_it_is(folder: Path) -> None:
    card = _take(folder, _save(folder, tiny_models.echo(tuple(tiny_models.ELEMENT))), "tensor", None)
    assert {spec.datatype for spec in card.inputs} == set(tiny_models.ELEMENT) and card.image is None
    assert all(spec.shape == (-1, -1) for spec in (*card.inputs, *card.outputs))


def test_tensor_model_of_fixed_shape_is_served_unbatched(folder: Path) -> None:
    model = _text("y = MatMul(x, w)", "float[5,3] x", "float[5,2] y")
    card = _take(folder, _save(folder, model), "tensor", None)
    assert (card.inputs[0].shape, card.outputs[0].shape, card.batching.max_batch_size) == ((5, 3), (5, 2), 1)


def test_free_axis_is_tried_with_the_size_its_owner_gives(folder: Path) -> None:
    model = _save(folder, _text("y = MatMul(x, w)", "float[N,K] x", "float[N,2] y"))
    with pytest.raises(ModelError, match="does not run with x"):
        _take(folder, model, "tensor", None)
    assert _take(folder, model, "tensor", None, About(sizes={"K": 3})).inputs[0].shape == (-1, -1)


def test_batch_of_one_is_set_free_where_the_graph_allows_it(folder: Path) -> None:
    model = _text(inputs="float[1,3,8,8] image", outputs="float[1,2] logits")
    card = _take(folder, _save(folder, model))
    assert card.inputs[0].shape[0] == -1 and "was fixed at 1" in card.provenance[0].note
    images = _images(4)
    alone = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = np.concatenate([alone.run(None, {"image": image[None]})[0] for image in images])
    np.testing.assert_allclose(_run(folder / "r/mine/1", images), expected, rtol=1e-6)


def test_softmax_at_the_end_gets_logits_that_give_it_back(folder: Path) -> None:
    model = _text(f"{POOLED} l = MatMul(rows, w) probabilities = Softmax(l)", outputs="float[N,2] probabilities")
    card = _take(folder, _save(folder, model))
    assert card.logits == "logits" and "logarithm" in card.provenance[0].note
    images = _images(5)
    logits, expected = (_run(folder / "r/mine/1", images, name) for name in ("logits", "probabilities"))
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), expected, atol=1e-6)


def test_external_data_beside_the_model_comes_along(folder: Path) -> None:
    model = _text()
    for weight in model.graph.initializer:  # only raw data can go outside
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight), weight.name))
    path = folder / "big" / "mine.onnx"
    path.parent.mkdir()
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    card = _take(folder, path)
    assert "weights.bin" in card.files and verify_version(folder / "r/mine/1")
    in_one = onnxruntime.InferenceSession(_text().SerializeToString(), providers=["CPUExecutionProvider"])
    images = _images(2)
    np.testing.assert_array_equal(_run(folder / "r/mine/1", images), in_one.run(None, {"image": images})[0])


def _external(location: str, length: int = 24) -> onnx.ModelProto:
    model = _text()
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "w")
    weight.ClearField("float_data")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
        weight.external_data.add(key=key, value=value)
    return model


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret", "a/../../secret", "c:\\secret", ""])
def test_external_data_outside_the_folder_is_refused(folder: Path, location: str) -> None:
    (folder.parent / "secret").write_bytes(bytes(24))
    _refused(folder, _external(location), "outside the model's folder")


def test_external_data_through_a_link_is_refused(folder: Path) -> None:
    (folder / "link.bin").symlink_to("/etc/passwd")
    _refused(folder, _external("link.bin"), "symbolic link")


def test_external_data_that_is_missing_or_short_is_refused(folder: Path) -> None:
    _refused(folder, _external("weights.bin"), "which is not there")
    (folder / "weights.bin").write_bytes(bytes(20))
    _refused(folder, _external("weights.bin"), "ends before weight 'w'")


def test_external_data_hidden_in_a_branch_is_found(folder: Path) -> None:
    hidden = numpy_helper.from_array(np.zeros(2, np.float32), "hidden")
    hidden.ClearField("raw_data")
    hidden.data_location = TensorProto.EXTERNAL
    hidden.external_data.add(key="location", value="/etc/passwd")
    branch = helper.make_graph([], "b", [], [helper.make_tensor_value_info("hidden", 1, [2])], [hidden])
    model = _text()
    model.graph.node.append(helper.make_node("If", ["cond"], ["unused"], then_branch=branch, else_branch=branch))
    _refused(folder, model, "outside the model's folder")


def test_model_above_the_limit_is_refused_with_its_external_data_counted(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(bytes(5000))
    path = _save(folder, _external("weights.bin"))
    with pytest.raises(ModelError, match="the limit is"):
        import_onnx(
            path, "mine", "classify", folder / "r", labels=folder / "labels.txt", preprocess="unit-8", max_bytes=5000
        )


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\x08\x08" * 40])
def test_file_that_is_no_model_is_refused(folder: Path, content: bytes) -> None:
    _refused(folder, content, "is not an ONNX file")


def test_truncated_model_is_refused(folder: Path) -> None:
    _refused(folder, _text().SerializeToString()[:-10], "is not an ONNX file")


def test_old_opset_is_refused_with_a_way_out(folder: Path) -> None:
    assert "version_converter" in _refused(folder, _text(opset=6), "of opset 6").remedy


def test_custom_operators_are_listed(folder: Path) -> None:
    body = f"{POOLED} a = their.ops.Magic(rows) b = their.ops.Trick(a) logits = MatMul(b, w)"
    refusal = _refused(folder, _text(body, domains=', "their.ops" : 1'), "custom operators")
    assert "their.ops::Magic, their.ops::Trick" in str(refusal)


def test_operator_that_loads_a_binary_is_refused(folder: Path) -> None:
    body = f"{POOLED} a = com.microsoft.EPContext(rows) logits = MatMul(a, w)"
    _refused(folder, _text(body, domains=', "com.microsoft" : 1'), "com.microsoft::EPContext")


def test_operator_that_the_file_defines_itself_is_no_custom_operator(folder: Path) -> None:
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17, "local" : 1]> g (float[N,3,8,8] image) => (float[N,2] logits) '
        f"<{WEIGHTS}> {{ {POOLED} twice = local.Twice(rows) logits = MatMul(twice, w) }} "
        f'<domain: "local", opset_import: ["" : 17]> Twice (x) => (y) {{ y = Add(x, x) }}'
    )
    assert _take(folder, _save(folder, model)).logits == "logits"


def test_fixed_batch_above_one_is_refused(folder: Path) -> None:
    model = _text(inputs="float[4,3,8,8] image", outputs="float[4,2] logits")
    assert "dynamic_shapes" in _refused(folder, model, "batch axis is fixed at 4").remedy


def test_batch_of_one_that_the_graph_relies_on_is_refused(folder: Path) -> None:
    body = "pooled = GlobalAveragePool(image) rows = Reshape(pooled, flat) logits = MatMul(rows, w)"
    model = _text(body, "float[1,3,8,8] image", "float[1,2] logits")
    assert "dynamic_shapes" in _refused(folder, model, "fixed at 1, and the graph relies on it").remedy


def test_rows_that_depend_on_each_other_are_refused(folder: Path) -> None:
    body = f"{POOLED} mean = ReduceMean<axes = [0], keepdims = 1>(rows) d = Sub(rows, mean) logits = MatMul(d, w)"
    _refused(folder, _text(body), "depends on the other rows")


def test_output_without_a_batch_axis_is_refused(folder: Path) -> None:
    body = f"{POOLED} logits = MatMul(rows, w) total = ReduceSum<keepdims = 0>(logits)"
    _refused(folder, _text(body, outputs="float[N,2] logits, float total"), "output 'total' is")


@pytest.mark.parametrize(
    ("inputs", "body", "complaint"),
    [
        (
            "float[N,8,8,3] image",
            "t = Transpose<perm = [0,3,1,2]>(image) p = GlobalAveragePool(t)",
            r"not \(N, 3, H, W\)",
        ),
        ("float[N,192] image", "s = Constant<value_ints = [-1,3,8,8]>() p = Reshape(image, s)", r"not \(N, 3, H, W\)"),
        (
            "float[N,1,8,8] image",
            "p = GlobalAveragePool(image)",
            "1 channels, not 3",
        ),
        ("uint8[N,3,8,8] image", "t = Cast<to = 1>(image) p = GlobalAveragePool(t)", "UINT8, not FP32"),
        ("float[N,3,16,16] image", "p = GlobalAveragePool(image)", "gives 8 x 8"),
        (
            "float[N,3,8,8] image, float[N,3] more",
            "p = GlobalAveragePool(image)",
            "one input, this one has image, more",
        ),
        ("", "p = Constant<value_float = 1.0>()", "takes no input"),
    ],
)
def test_input_that_is_no_picture_is_refused(folder: Path, inputs: str, body: str, complaint: str) -> None:
    _refused(folder, _text(f"{body} rows = Flatten(p) logits = MatMul(rows, w)", inputs), complaint)


def test_other_number_of_labels_is_refused(folder: Path) -> None:
    (folder / "labels.txt").write_text("cat\ndog\nfish\n")
    _refused(folder, _text(), r"there are 3 labels, the model gives logits \[3, 2\]")


def test_two_outputs_that_would_do_have_to_be_told_apart(folder: Path) -> None:
    body = f"{POOLED} one = MatMul(rows, w) two = Neg(one)"
    model = _text(body, outputs="float[N,2] one, float[N,2] two")
    _refused(folder, model, "several outputs would do: one, two")
    _refused(folder, model, "no output 'three'", about=About(output="three"))
    assert _take(folder, _save(folder, model), about=About(output="two")).logits == "two"


def test_values_that_are_not_finite_are_refused(folder: Path) -> None:
    _refused(folder, _text(f"{POOLED} l = MatMul(rows, w) n = Sub(l, l) logits = Div(n, n)"), "not finite")


@pytest.mark.parametrize(
    ("name", "task", "labels", "preprocess", "complaint"),
    [
        ("../mine", "classify", True, "unit-8", "is not allowed"),
        ("minilm-l6", "classify", True, "unit-8", "catalog has a model"),
        ("mine", "embed-text", False, None, "cannot be imported"),
        ("mine", "classify", False, "unit-8", "needs its labels"),
        ("mine", "embed-image", True, "unit-8", "labels mean nothing"),
        ("mine", "classify", True, None, "needs its preprocessing"),
        ("mine", "tensor", False, "unit-8", "takes tensors"),
        ("mine", "classify", True, "imagenet", "no preprocessing 'imagenet'"),
        ("mine", "classify", True, "imagenet-4000", "no preprocessing"),
    ],
)
def test_request_that_does_not_fit_together_is_refused(
    folder: Path, name: str, task: Task, labels: bool, preprocess: str | None, complaint: str
) -> None:
    path = _save(folder, _text())
    with pytest.raises(ModelError, match=complaint) as refusal:
        import_onnx(
            path, name, task, folder / "r", labels=folder / "labels.txt" if labels else None, preprocess=preprocess
        )
    assert refusal.value.remedy and not installed(folder / "r")


def test_missing_package_is_named_with_the_command_that_installs_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _save(folder, _text())
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnx" else real(name))
    with pytest.raises(ModelError, match="needs the package onnx") as refusal:
        _take(folder, path)
    assert "pip install" in refusal.value.remedy


@pytest.mark.parametrize(
    ("text", "resize", "mode", "interpolation", "mean"),
    [
        ("imagenet-224", 256, "shorter-crop", "bilinear", 0.485),
        ("clip-224", 224, "shorter-crop", "bicubic", 0.48145466),
        ("half-299", 341, "shorter-crop", "bicubic", 0.5),
        ("unit-64", None, "squash", "bilinear", 0.0),
    ],
)
def test_presets_are_the_usual_recipes(text: str, resize: int, mode: str, interpolation: str, mean: float) -> None:
    spec = preset(text)
    assert (spec.resize, spec.mode, spec.interpolation, spec.mean[0]) == (resize, mode, interpolation, mean)
