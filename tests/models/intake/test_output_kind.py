"""What an imported classifier's output holds is read from its graph and its trial run, or asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

from models.catalog.card import Card, OutputKind
from models.errors import ModelError
from models.intake.importing import About, import_onnx

HEAD = '<ir_version: 8, opset_import: ["" : 17, "own" : 1]>'
WEIGHTS = (
    "float[3,4] w = {1.0, -1.0, 0.5, 0.25, -0.75, 2.0, 1.5, -2.0, 0.5, 0.5, -1.5, 1.0}, "
    "float[4] bias = {0.1, -0.2, 0.3, 0.4}, float hundred = {100.0}, float half = {0.5}, float one = {1.0}, "
    "int64[2] flat = {-1, 4}, int64[1] last = {1}, int64[4] deep = {-1, 4, 1, 1}, int64[2] ends = {2, 3}, "
    "int64[1] from = {0}, int64[1] to = {3}"
)
FUNCTION = '<domain: "own", opset_import: ["" : 17, "own" : 1]> {name} (x) => (y) {{ {body} }}'
SOFTMAX = "p = GlobalAveragePool(image) r = Flatten(p) l = MatMul(r, w) s = Softmax(l)"
SIGMOID = SOFTMAX.replace("Softmax", "Sigmoid")
LINEAR = SOFTMAX.replace("s = Softmax(l)", "")


def graph(body: str, classes: int = 4, functions: str = "") -> onnx.ModelProto:
    return parser.parse_model(
        f"{HEAD} g (float[N,3,8,8] image) => (float[N,{classes}] y) <{WEIGHTS}> {{ {body} }} {functions}"
    )


def take(folder: Path, model: onnx.ModelProto, said: OutputKind | None = None, classes: int = 4) -> Card:
    (folder / "labels.txt").write_text("\n".join(f"label {number}" for number in range(classes)))
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    about = About(kind=said)
    return import_onnx(
        folder / "m.onnx", "mine", "classify", folder / "r", labels=folder / "labels.txt", preprocess="unit-8",
        about=about,
    )  # fmt: skip


def squashed(folder: Path, card: Card) -> tuple[np.ndarray, np.ndarray]:
    """The role logits squashed as the card says, and what the model's own output ``y`` is."""
    session = onnxruntime.InferenceSession(folder / "r/mine/1/model.onnx", providers=["CPUExecutionProvider"])
    images = 3 * np.random.default_rng(5).standard_normal((6, 3, 8, 8)).astype(np.float32)
    logits, own = session.run([card.logits, "y"], {"image": images})
    if card.output_kind == "sigmoid":
        return 1 / (1 + np.exp(-logits)), own
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True), own


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (f"{LINEAR} y = Identity(l)", "logits"),
        (f"{LINEAR} y = Add(l, bias)", "logits"),
        (f"{LINEAR} a = Relu(l) b = Add(a, one) y = Mul(b, hundred)", "logits"),
        (f"{SOFTMAX} y = Identity(s)", "softmax"),
        (f"{SOFTMAX} h = Cast<to = 10>(s) y = Cast<to = 1>(h)", "softmax"),
        (f"{SOFTMAX} u = Reshape(s, deep) v = Squeeze(u, ends) y = Mul(v, one)", "softmax"),
        (f"{LINEAR} e = Exp(l) t = ReduceSum<keepdims = 1>(e, last) y = Div(e, t)", "softmax"),
        (f"{SOFTMAX} m = Add(s, s) y = Mul(m, half)", "softmax"),
        (f"{SIGMOID} y = Identity(s)", "sigmoid"),
        (f"{SIGMOID} u = Unsqueeze(s, ends) f = Flatten(u) y = Reshape(f, flat)", "sigmoid"),
        (f"{SIGMOID} h = Cast<to = 10>(s) d = Cast<to = 1>(h) y = Mul(d, half)", "sigmoid"),
        (f"{LINEAR} y = HardSigmoid(l)", "sigmoid"),
        (f"{LINEAR} a, b = Split<axis = 1>(l, ends2) c = Sigmoid(a) d = Sigmoid(b) y = Concat<axis = 1>(c, d)",
         "sigmoid"),
    ],
)  # fmt: skip
def test_what_the_output_holds_is_found_and_the_models_own_scores_come_back(
    tmp_path: Path, body: str, kind: OutputKind
) -> None:
    if "ends2" in body:
        body = f"ends2 = Constant<value_ints = [1, 3]>() {body}"
    card = take(tmp_path, graph(body))
    assert card.output_kind == kind
    if kind == "logits":
        assert card.logits == "y" and not card.provenance[0].note
        return
    scores, own = squashed(tmp_path, card)
    np.testing.assert_allclose(scores, own, atol=2e-6 if "Cast" not in body else 1e-3)
    assert kind in card.provenance[0].note and Card.read(tmp_path / "r/mine/1").output_kind == kind


def test_a_log_softmax_is_its_own_logits(tmp_path: Path) -> None:
    card = take(tmp_path, graph(f"{LINEAR} y = LogSoftmax(l)"))
    assert (card.output_kind, card.logits) == ("softmax", "y")


def test_an_activation_inside_of_a_local_function_is_found(tmp_path: Path) -> None:
    head = FUNCTION.format(name="Head", body="a = Sigmoid(x) y = own.Same(a)")
    same = FUNCTION.format(name="Same", body="y = Identity(x)")
    model = graph(f"{LINEAR} y = own.Head(l)", functions=f"{head} {same}")
    assert take(tmp_path, model).output_kind == "sigmoid"


def test_an_output_called_logits_that_is_a_sigmoid_is_one(tmp_path: Path) -> None:
    model = graph(f"{LINEAR} y = Sigmoid(l)")
    model.graph.node[-1].output[0] = model.graph.output[0].name = "logits"
    card = take(tmp_path, model)
    assert (card.output_kind, card.logits) == ("sigmoid", "logits_logit")


UNSURE = [
    (f"{LINEAR} y = Clip(l, zero, one)", 4, "sigmoid"),
    (f"{LINEAR} t = Tanh(l) u = Add(t, one) y = Mul(u, half)", 4, "sigmoid"),
    (f"{SIGMOID} y = Mul(s, hundred)", 4, "logits"),
    (f"{SIGMOID} y = Log(s)", 4, "logits"),
    (f"{SOFTMAX} y = Mul(s, hundred)", 4, "logits"),
    (f"{SOFTMAX} y = Slice(s, from, to, last)", 3, "sigmoid"),
]


@pytest.mark.parametrize(("body", "classes", "said"), UNSURE)
def test_a_doubt_is_told_and_the_flag_of_the_remedy_settles_it(
    tmp_path: Path, body: str, classes: int, said: OutputKind
) -> None:
    body = f"zero = Constant<value_float = 0.0>() {body}"
    with pytest.raises(ModelError, match="what output 'y' holds is not certain") as refusal:
        take(tmp_path, graph(body, classes), classes=classes)
    assert f"--output-kind {said}" in refusal.value.remedy or f"{said} (" in refusal.value.remedy
    card = take(tmp_path, graph(body, classes), said, classes)
    assert card.output_kind == said
    assert (card.logits == "y") == (said == "logits")


@pytest.mark.parametrize(("body", "said"), [(LINEAR + "y = Identity(l)", "softmax"), (LINEAR + "y = Neg(l)", "sigmoid"),
                                            (SIGMOID + "y = Identity(s)", "softmax")])  # fmt: skip
def test_what_cannot_be_is_refused_whoever_says_it(tmp_path: Path, body: str, said: OutputKind) -> None:
    with pytest.raises(ModelError, match=f"is no {said}: ") as refusal:
        take(tmp_path, graph(body), said)
    assert "--output-kind logits" in refusal.value.remedy
    assert take(tmp_path, graph(body), "logits").output_kind == "logits"


def test_a_kind_means_nothing_for_tensors(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(graph(f"{LINEAR} y = Identity(l)").SerializeToString())
    with pytest.raises(ModelError, match="means nothing for 'tensor'"):
        import_onnx(tmp_path / "m.onnx", "mine", "tensor", tmp_path / "r", about=About(kind="sigmoid"))


def test_cards_of_earlier_releases_say_what_they_noted(tmp_path: Path) -> None:
    folder = tmp_path / "r/mine/1"
    take(tmp_path, graph(f"{SOFTMAX} y = Identity(s)"))
    old = (folder / "card.json").read_text().replace(' "output_kind": "softmax",\n', "")
    assert "output_kind" not in old
    (folder / "card.json").write_text(old)
    assert Card.read(folder).output_kind == "softmax"
    (folder / "card.json").write_text(old.replace("the model's softmax", "something else"))
    assert Card.read(folder).output_kind == "logits"
