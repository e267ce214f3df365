"""Every strategy starts at the encoder, moves at the first step, and merges to what was trained; or says why not."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from models.backbones.vit import VitConfig
from models.encoders import EncoderConfig, ImageEncoder
from services.errors import Problem
from services.finetuning import strategies
from services.finetuning.encoders.adapted import Adapted, apply, count, load_adapter, save_adapter, served, trainable
from services.finetuning.heads.head import Head, HeadConfig
from services.finetuning.strategies import names
from services.finetuning.strategies.base import strategy
from tests.support import tiny_encoders
from tests.support.tiny_encoders import SIDE

FIXTURES = Path(__file__).parents[2] / "parity" / "kadaptation"
TRAINING = [name for name in names() if name != "linear_probe"]
MERGED = {"full", "bitfit", "layernorm", "lora", "kadaptation"}
EVERYWHERE = [(method, architecture) for architecture in tiny_encoders.BACKBONES for method in TRAINING]


def pictures(count: int = 4) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def stepped(encoder: ImageEncoder, steps: int = 1) -> ImageEncoder:
    """After plain gradient steps towards random features."""
    target = torch.randn(4, encoder.dim_out, generator=torch.Generator().manual_seed(2))
    optimizer = torch.optim.SGD(trainable(encoder).values(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        (encoder(pictures()) - target).square().mean().backward()
        optimizer.step()
    return encoder


def test_the_strategies_are_the_files() -> None:
    assert names() == ("adapter", "bitfit", "compacter", "full", "kadaptation", "layernorm", "linear_probe", "lora")
    assert all(strategy(name).summary for name in names())


@pytest.mark.parametrize(
    ("method", "published"),
    [
        ("kadaptation", 50_176),
        ("lora", 147_456),
        ("adapter", 1_208_064),
        ("compacter", 48_384),
        ("full", 87_849_216),
        ("bitfit", 102_912),
        ("layernorm", 39_936),
        ("linear_probe", 0),
    ],
)
def test_parameters_on_vit_b32_are_the_published_number(method: str, published: int) -> None:
    with torch.device("meta"):
        encoder = ImageEncoder(EncoderConfig(VitConfig()))
        assert count(apply(encoder, method, {})) == published


def test_the_released_kadaptation_has_the_published_number_too() -> None:
    with torch.device("meta"):
        encoder = ImageEncoder(EncoderConfig(VitConfig()))
        assert count(apply(encoder, "kadaptation", {"mode": "reference"})) == 50_176


@pytest.mark.parametrize(("method", "architecture"), EVERYWHERE)
def test_training_starts_at_the_encoder_and_moves_at_the_first_step(method: str, architecture: str) -> None:
    encoder = tiny_encoders.build(architecture)
    prepared = apply(encoder, method, {})
    with torch.no_grad():
        before = encoder(pictures())
        torch.testing.assert_close(prepared(pictures()), before, atol=1e-5, rtol=1e-4)
    frozen = {name: value.clone() for name, value in prepared.state_dict().items() if name not in trainable(prepared)}
    stepped(prepared)
    with torch.no_grad():
        assert (prepared(pictures()) - before).abs().max() > 1e-7
    after = prepared.state_dict()
    shared = {value.data_ptr() for value in trainable(prepared).values()}  # the same numbers under a second name
    assert all(torch.equal(after[name], was) for name, was in frozen.items() if after[name].data_ptr() not in shared)


@pytest.mark.parametrize(("method", "architecture"), EVERYWHERE)
def test_what_is_served_computes_what_was_trained(method: str, architecture: str) -> None:
    encoder = stepped(apply(tiny_encoders.build(architecture), method, {}), steps=2)
    model = Adapted(encoder, Head(encoder.dim_out, 3, HeadConfig()))
    with torch.no_grad():
        model.train()(pictures())  # the head's batch norm sees something
        expected = model.eval()(pictures())
        final, plain = served(model)
        torch.testing.assert_close(final(pictures())[0], expected, atol=1e-4, rtol=1e-3)
    assert plain == (method in MERGED)
    torch.testing.assert_close(model(pictures()), expected)  # serving works on a copy


@pytest.mark.parametrize(
    ("method", "architecture"), [("kadaptation", "vit"), ("compacter", "resnet"), ("lora", "swin")]
)
def test_an_adapter_file_alone_brings_the_training_back(method: str, architecture: str, tmp_path: Path) -> None:
    encoder = tiny_encoders.build(architecture)
    trained = stepped(apply(encoder, method, {}), steps=3)
    model = Adapted(trained, Head(trained.dim_out, 3, HeadConfig())).eval()
    save_adapter(model, tmp_path / "adapter.safetensors", {"method": method})
    assert (tmp_path / "adapter.safetensors").stat().st_size < 64_000
    again = apply(encoder, method, {}, seed=9)
    load_adapter(again, load_file(tmp_path / "adapter.safetensors"))
    with torch.no_grad():
        torch.testing.assert_close(again(pictures()), trained(pictures()))
    with pytest.raises(ValueError, match="not of this encoder and method"):
        load_adapter(apply(encoder, "bitfit", {}), load_file(tmp_path / "adapter.safetensors"))


def test_the_reference_mode_computes_what_the_released_code_computed() -> None:
    tensors = load_file(FIXTURES / "vit_tiny.safetensors")
    encoder = apply(tiny_encoders.build("vit"), "kadaptation", {"mode": "reference"})
    own = encoder.network.state_dict()
    theirs = {name.removeprefix("weights/"): t for name, t in tensors.items() if name.startswith("weights/")}
    theirs = {name.replace(".attn.", ".attn.inner."): t for name, t in theirs.items() if name in theirs}
    encoder.network.load_state_dict({name: theirs[name] for name in own}, strict=True)
    with torch.no_grad():
        torch.testing.assert_close(encoder(tensors["input"]), tensors["output"], atol=2e-5, rtol=1e-4)


def test_the_released_factors_never_move_and_the_corrected_ones_do() -> None:
    def farthest(mode: str, ending: str) -> float:
        encoder = stepped(apply(tiny_encoders.build("vit"), "kadaptation", {"mode": mode}), steps=2)
        return max(float(p.detach().abs().max()) for name, p in trainable(encoder).items() if name.endswith(ending))

    assert farthest("reference", "q_proj_adapter1_left") == 0.0
    assert farthest("corrected", "updates.0.left") > 0.0


@pytest.mark.parametrize(
    ("method", "architecture", "options", "code"),
    [
        ("kadaptation", "swin", {"mode": "reference"}, "method-unsuitable"),
        ("kadaptation", "efficientnet-lite", {"factors": 2}, "method-unsuitable"),
        ("compacter", "resnet", {"factors": 7}, "method-unsuitable"),
        ("lora", "vit", {"rank": 65}, "method-unsuitable"),
        ("lora", "vit", {"parts": "project"}, "method-unsuitable"),
        ("lora", "vit", {"parts": "elbow"}, "unknown-option"),
        ("lora", "vit", {"rang": 2}, "unknown-option"),
        ("adapter", "vit", {"width": "wide"}, "unknown-option"),
        ("kadaptation", "vit", {"mode": "best"}, "unknown-option"),
        ("prompting", "vit", {}, "unknown-method"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(method: str, architecture: str, options: dict, code: str) -> None:
    with pytest.raises(Problem) as caught:
        apply(tiny_encoders.build(architecture), method, options)
    assert caught.value.code == code
    assert caught.value.remedy


def test_the_example_of_the_guide_is_a_strategy(monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "adaptation.md").read_text("utf-8")
    [code] = [block.partition("```")[0] for block in guide.split("```python")[1:] if "STRATEGY = " in block]
    module = types.ModuleType("services.finetuning.strategies.scaling")
    exec(code, module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(strategies, "names", lambda: (*names(), "scaling"))
    assert count(apply(tiny_encoders.build("swin"), "scaling", {})) == 2 * 32
    with pytest.raises(Problem, match="none of its blocks"):
        apply(tiny_encoders.build("resnet"), "scaling", {})


def test_the_encoder_that_was_given_is_never_changed() -> None:
    encoder = tiny_encoders.build("focalnet")
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    stepped(apply(encoder, "full", {}))
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert all(parameter.requires_grad for parameter in encoder.parameters())
