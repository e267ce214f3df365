"""Parity of GLIP's networks: builds what a fixture describes and computes every tensor that it holds.

Inputs of these fixtures begin with ``in.``; where a fixture has several of a kind, one a level, the level ends the
name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from models.backbones.swin_pyramid import SwinPyramidConfig
from models.glip.deform import deform_conv, flat_view
from models.glip.dyconv import DyConv
from models.glip.fusion import Fusion
from models.glip.head import HeadConfig, VLDyHead
from models.glip.network import Glip, GlipConfig
from models.glip.variants import MANIFESTS, VARIANTS
from models.intake.checkpoint import load
from models.parity import Comparison, Config, Fixture, FixtureKind, compare
from models.text.bert import BertConfig

LEVELS = 5


def check_deform(fixture: Fixture) -> list[Comparison]:
    """Deformable convolutions, offsets of another size than the output among them."""
    found = {}
    for case in fixture.config["cases"]:
        name = f"case{case['case']}"
        x, offset, mask, weight, bias = (
            fixture.expected[f"{name}.{part}"] for part in ("input", "offset", "mask", "weight", "bias")
        )
        height, width = case["output_hw"]
        if case["flat_reinterpretation"]:
            offset, mask = flat_view(offset, height, width), flat_view(mask, height, width)
        found[f"{name}.output"] = deform_conv(x, offset, mask, weight, bias, case["stride"])
    return _compare(fixture, found)


def check_dyconv(fixture: Fixture) -> list[Comparison]:
    """One block over five levels."""
    network = DyConv(fixture.config["channels"], fixture.config["gn_groups"])
    _load(network, fixture)
    with torch.no_grad():
        return _compare(fixture, _numbered("out.visual", network(_levels(fixture, "in.visual"))))


def check_fusion(fixture: Fixture) -> list[Comparison]:
    """The fusion block; its attention alone; and the same with logits beyond the limit."""
    config, given = fixture.config, fixture.expected
    network = Fusion(config["v_dim"], config["l_dim"], config["embed_dim"], config["num_heads"], share=1.0)
    _load(network, fixture)
    with torch.no_grad():
        levels, hidden = network(_levels(fixture, "in.visual"), given["in.hidden"], given["in.masks"])
        found = {**_numbered("out.visual", levels), "out.hidden": hidden}

        attention = network.b_attn.attn
        alone = given["attn.in.v"], given["attn.in.l"], given["attn.in.mask"]
        found["attn.out.v"], found["attn.out.l"] = attention(*alone)
        attention.v_proj.weight.mul_(4e4)
        attention.l_proj.weight.mul_(10)
        found["clamp.out.v"], found["clamp.out.l"] = attention(*alone)

    atol = config["tolerance"]["clamp_atol"]
    return _compare(fixture, found, lambda name: atol if name.startswith("clamp.") else None)


def check_head(fixture: Fixture) -> list[Comparison]:
    """The whole head, with deep fusion or without."""
    given = fixture.expected
    config = head_config(fixture.config, fused=fixture.config["early_fuse"])
    network = VLDyHead(config)
    _load(network, fixture)
    levels, mask = _levels(fixture, "in.visual"), given["in.masks"]
    with torch.no_grad():
        output = network(levels, given["in.hidden" if config.fused else "in.embedded"], mask)
        mixed, tokens = network.tower(levels, given["in.hidden"], mask)
        assert network.cls_logits is not None
        found = {
            **_numbered("out.dot_product_logits", output.logits),
            **_numbered("out.bbox_reg", output.deltas),
            **_numbered("out.centerness", output.centerness),
            **_numbered("out.cls_logits", [network.cls_logits(level) for level in output.levels]),
            **_numbered("out.tower.visual", mixed),
            "out.tower.hidden": tokens,
        }
    return _compare(fixture, found)


def check_manifest(fixture: Fixture) -> list[Comparison]:
    """Every name, shape and type of a published network, and its parameter count, without its weights."""
    with torch.device("meta"):
        network = Glip(VARIANTS[MANIFESTS[fixture.config["variant"]]])
    keys = [[name, one["shape"], one["dtype"]] for name, one in fixture.config["tensors"].items()]
    config = {"keys": keys, "n_parameters": fixture.config["params_total"]}
    return replace(fixture, config=config).compare_manifest(network)


def head_config(config: Config, *, fused: bool = True) -> HeadConfig:
    """The head of a tiny fixture."""
    return HeadConfig(
        channels=config["vdim"],
        text_width=config["ldim"],
        convs=config["convs"],
        fused=fused,
        fusion_width=config["fuse_dim"],
        fusion_heads=config["fuse_heads"],
        text_heads=config["bert_heads"],
        text_hidden=config["bert_ffn"],
        norm_groups=config["gn"],
        classes=config["ncls"],
    )


def tiny_config(config: Config) -> GlipConfig:
    """The whole network of a tiny fixture."""
    swin = config["swin"]
    return GlipConfig(
        SwinPyramidConfig(
            swin["embed_dim"], tuple(swin["depths"]), tuple(swin["heads"]), swin["window"], swin["patch"]
        ),
        BertConfig(
            vocabulary=config["vocab"],
            positions=config["tlen_max"],
            width=config["ldim"],
            layers=config["bert_layers"],
            heads=config["bert_heads"],
            hidden=config["bert_ffn"],
        ),
        head_config(config),
    )


def _load(network: nn.Module, fixture: Fixture) -> None:
    load(network, fixture.weights, lambda shapes: ())
    network.eval()


def _levels(fixture: Fixture, name: str) -> list[Tensor]:
    return [fixture.expected[f"{name}.{level}"] for level in range(LEVELS)]


def _numbered(name: str, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{number}": tensor for number, tensor in enumerate(tensors)}


def _compare(
    fixture: Fixture, found: Mapping[str, Tensor], atol: Callable[[str], float | None] = lambda name: None
) -> list[Comparison]:
    """Every tensor that the reference computed; ``atol`` where a name has a tolerance of its own."""
    tolerance = fixture.config["tolerance"]
    wanted = {name: tensor for name, tensor in fixture.expected.items() if _computed(name)}
    return [
        compare(name, found.get(name), tensor, atol(name) or float(tolerance["atol"]), float(tolerance["rtol"]))
        for name, tensor in wanted.items()
    ]


def _computed(name: str) -> bool:
    first, _, rest = name.partition(".")
    if first.startswith("case"):
        return rest == "output"
    return "in" not in name.split(".")


KINDS = (
    FixtureKind("glip-deform-conv", lambda config: "flat_reinterpretation" in _first_case(config), check_deform),
    FixtureKind("glip-dyconv", lambda config: {"gn_groups", "level_shapes"} <= config.keys(), check_dyconv),
    FixtureKind("glip-fusion", lambda config: "stable_softmax_2d" in config, check_fusion),
    FixtureKind("glip-head", lambda config: "early_fuse" in config, check_head),
    FixtureKind("glip-manifest", lambda config: config.get("variant") in MANIFESTS, check_manifest),
)


def _first_case(config: Config) -> Config:
    cases = config.get("cases")
    return cases[0] if isinstance(cases, list) and cases and isinstance(cases[0], dict) else {}
