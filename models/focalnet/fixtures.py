"""Parity of FocalNet: builds the network that a fixture describes and computes every tensor that it holds."""

from __future__ import annotations

import torch
from torch import Tensor

from models.backbones.focalnet import FocalNet, FocalNetConfig, FocalNetPyramid
from models.focalnet.checkpoint import canonical, fits
from models.intake.checkpoint import load
from models.parity import Comparison, Config, Fixture


def config_from_constructor(arguments: Config, *, detection: bool) -> FocalNetConfig:
    """The reference constructor's keyword arguments as our config; ``detection`` for the backbone with four maps."""
    return FocalNetConfig(
        embed_dim=arguments["embed_dim"],
        depths=tuple(arguments["depths"]),
        focal_levels=tuple(arguments["focal_levels"]),
        focal_windows=tuple(arguments["focal_windows"]),
        patch_size=arguments.get("patch_size", 4),
        in_channels=arguments.get("in_chans", 3),
        mlp_ratio=arguments.get("mlp_ratio", 4.0),
        conv_embed=arguments.get("use_conv_embed", False),
        patch_norm=arguments.get("patch_norm", True),
        layerscale=arguments.get("use_layerscale", False),
        # The detection backbone takes no postln, and its blocks have their norms before the branches.
        postln=not detection and arguments.get("use_postln", False),
        postln_in_modulation=arguments.get("use_postln_in_modulation", False),
        normalize_modulator=arguments.get("normalize_modulator", False),
        stem_padding=3 if detection else 2,
        pad_input=detection,
        num_classes=0 if detection else arguments.get("num_classes", 1000),
    )


def check_network(fixture: Fixture) -> list[Comparison]:
    """Every tensor of a classifier's or a detection backbone's fixture."""
    arguments = fixture.config["constructor"]
    detection = "out_indices" in arguments
    config = config_from_constructor(arguments, detection=detection)
    network = FocalNetPyramid(config, arguments["out_indices"]) if detection else FocalNet(config)
    load(network, canonical(fixture.weights).state, fits)
    network.eval()
    with torch.no_grad():
        if isinstance(network, FocalNetPyramid):
            maps = network(fixture.inputs["image"])
            return fixture.compare({f"feat{stage}": x for stage, x in zip(network.stages_out, maps, strict=True)})
        return fixture.compare(_classifier_outputs(network, fixture.inputs["image"]))


def _classifier_outputs(network: FocalNet, image: Tensor) -> dict[str, Tensor]:
    outputs = {"patch_embed": network.patch_embed(image).flatten(1, 2)}  # (B, H * W, C)
    for stage, (blocks_out, _) in enumerate(network.stages(image)):
        outputs[f"stage{stage}.blocks_out"] = blocks_out.flatten(1, 2)
        outputs[f"stage{stage}.hw"] = torch.tensor(blocks_out.shape[1:3])
    outputs["tokens_norm"] = network.features(image).tokens.flatten(1, 2)
    outputs["pooled"] = network.pooled(image)
    # Built without a head, the reference hands its pooled features on as logits.
    outputs["logits"] = outputs["pooled"] if network.head is None else network(image)
    outputs["probs"] = outputs["logits"].softmax(dim=-1)
    return outputs


def check_manifest(fixture: Fixture) -> list[Comparison]:
    """Every name, shape and type of a published network, and its parameter count, without its weights."""
    arguments = fixture.config["hyperparameters"]
    detection = "det_backbone" in fixture.config["variant"]
    config = config_from_constructor(arguments, detection=detection)
    with torch.device("meta"):
        network = FocalNetPyramid(config) if detection else FocalNet(config)
    return fixture.compare_manifest(network)
