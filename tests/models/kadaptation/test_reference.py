"""The reference mode equals the released KAdaptation code and its baselines on the numbers they gave."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.kadaptation.deltas import KroneckerDelta, SlowFactors, kronecker_sum
from models.kadaptation.reference import VIT_B32, Attention, EncoderConfig, Transformer, VisionTransformer, trainable

FIXTURES = Path(__file__).parents[2] / "parity" / "kadaptation"
META = json.loads((FIXTURES / "meta.json").read_text())
CASES = {case["name"]: case for case in META["cases"]}
TOLERANCE = {"atol": META["tolerance"]["atol"], "rtol": META["tolerance"]["rtol"]}


def build(case):
    name = case["name"]
    if name.startswith("attention"):
        return Attention(case["embed_dim"], case["num_heads"], "kadaptation")
    method = name.removeprefix("baseline_") if name.startswith("baseline") else "kadaptation"
    config = EncoderConfig(case["width"], case["layers"], case["heads"], method)
    if name == "vit_tiny":
        config = EncoderConfig(64, 2, 4, method, case["input_resolution"], case["patch_size"], case["output_dim"])
        return VisionTransformer(config)
    return Transformer(config)


def load(case):
    tensors = load_file(FIXTURES / case["file"])
    model = build(case).eval()
    weights = {key.removeprefix("weights/"): value for key, value in tensors.items() if key.startswith("weights/")}
    model.load_state_dict(weights, strict=True)
    return model, tensors


@pytest.mark.parametrize("name", CASES)
def test_output_equals_the_reference(name):
    model, tensors = load(CASES[name])
    torch.testing.assert_close(model(tensors["input"]).detach(), tensors["output"], **TOLERANCE)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "loss_weights" in case["tensors"]])
def test_gradients_equal_the_reference(name):
    model, tensors = load(CASES[name])
    (model(tensors["input"]) * tensors["loss_weights"]).sum().backward()
    wanted = {key.removeprefix("grad/"): value for key, value in tensors.items() if key.startswith("grad/")}
    for key, gradient in wanted.items():
        torch.testing.assert_close(model.get_parameter(key).grad, gradient, atol=2e-3, rtol=1e-3)
    for key in CASES[name].get("params_without_grad", []):
        assert model.get_parameter(key).grad is None


@pytest.mark.parametrize("name", ["attention_d64", "attention_d96"])
def test_updates_equal_the_reference(name):
    model, tensors = load(CASES[name])
    query, value = model.deltas(tensors["input"])
    torch.testing.assert_close(query.detach(), tensors["q_delta"], **TOLERANCE)
    torch.testing.assert_close(value.detach(), tensors["v_delta"], **TOLERANCE)
    fast = model.q_proj_adapter1_left @ model.q_proj_adapter1_right
    delta = kronecker_sum(model.phm_rule1_left @ model.phm_rule1_right, fast)
    torch.testing.assert_close(delta.detach(), tensors["delta_w_q"], **TOLERANCE)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "trainable_params" in case])
def test_what_trains_is_what_the_reference_trains(name):
    model, _ = load(CASES[name])
    chosen = trainable(model)
    assert sum(parameter.numel() for parameter in chosen.values()) == CASES[name]["trainable_params"]
    if "trainable" in CASES[name]:
        assert set(chosen) == set(CASES[name]["trainable"])


@pytest.mark.parametrize(
    ("method", "count"),
    [("kadaptation", 50_176), ("lora", 147_456), ("adapter", 1_208_064), ("compacter", 48_384)],
)
def test_published_parameter_counts_of_vit_b32(method, count):
    with torch.device("meta"):
        model = VisionTransformer(EncoderConfig(**VIT_B32, method=method))
    assert sum(parameter.numel() for parameter in trainable(model).values()) == count


def test_the_corrected_update_starts_at_zero_moves_at_the_first_step_and_merges():
    torch.manual_seed(0)
    delta, x = KroneckerDelta(96, 64, SlowFactors()), torch.randn(5, 64)
    assert not delta(x).any()
    optimizer = torch.optim.SGD([*delta.parameters(), *delta.slow[0].parameters()], lr=1.0)
    (delta(x) * torch.randn(5, 96)).sum().backward()
    optimizer.step()
    assert delta(x).abs().max() > 0
    torch.testing.assert_close(x @ delta.weight().T, delta(x))
