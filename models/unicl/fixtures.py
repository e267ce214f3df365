"""Parity of UniCL: the two-tower network, its loss with gradients, and the names of the published weights."""

from __future__ import annotations

import torch
from torch import Tensor

from models.backbones.focalnet import FocalNet, FocalNetConfig, Stage
from models.backbones.resnet import ResNet, ResNetConfig
from models.backbones.swin import Swin, SwinConfig
from models.intake.checkpoint import load
from models.parity import Comparison, Config, Fixture, compare
from models.text.clip_transformer import ClipTextConfig
from models.unicl.checkpoint import fits
from models.unicl.loss import unicl_loss, with_fresh_ids
from models.unicl.network import UniCL, UniCLConfig, class_embeddings

LOSS_ATOL = 1e-6
"""The loss fixtures are float64 arithmetic on features rounded to seven decimals."""


def config_from_yaml(model: Config) -> UniCLConfig:
    """The reference's ``MODEL`` section as our config; raises ``ValueError`` for an encoder that it names but lacks."""
    image, text = model["IMAGE_ENCODER"], model["TEXT_ENCODER"]
    return UniCLConfig(
        image=_image_config(image),
        text=ClipTextConfig(
            vocab_size=text["VOCAB_SIZE"],
            context_length=text["CONTEXT_LENGTH"],
            width=text["WIDTH"],
            heads=text["HEADS"],
            layers=text["LAYERS"],
            causal=text.get("AUTOGRESSIVE", True),
            pool_first=text.get("TOKENIZER", "clip") != "clip",
        ),
        dim=model["DIM_PROJECTION"],
    )


def _image_config(image: Config) -> SwinConfig | FocalNetConfig:
    match image["TYPE"]:
        case "swin":
            swin = image["SWIN"]
            return SwinConfig(
                image_size=image["IMG_SIZE"],
                embed_dim=swin["EMBED_DIM"],
                depths=tuple(swin["DEPTHS"]),
                heads=tuple(swin["NUM_HEADS"]),
                window=swin["WINDOW_SIZE"],
                patch_size=swin["PATCH_SIZE"],
                in_channels=swin["IN_CHANS"],
                mlp_ratio=swin["MLP_RATIO"],
                absolute_positions=swin.get("APE", False),
                qkv_bias=swin.get("QKV_BIAS", True),
                qk_scale=swin.get("QK_SCALE"),
                patch_norm=swin.get("PATCH_NORM", True),
            )
        case "focal":
            focal = image["FOCAL"]
            return FocalNetConfig(
                embed_dim=focal["EMBED_DIM"],
                depths=tuple(focal["DEPTHS"]),
                focal_levels=tuple(focal["FOCAL_LEVELS"]),
                focal_windows=tuple(focal["FOCAL_WINDOWS"]),
                patch_size=focal["PATCH_SIZE"],
                in_channels=focal["IN_CHANS"],
                mlp_ratio=focal["MLP_RATIO"],
                conv_embed=focal["USE_CONV_EMBED"],
                patch_norm=focal.get("PATCH_NORM", True),
                layerscale=focal["USE_LAYERSCALE"],
                # In this code base alone USE_POSTLN is the norm inside the modulation; its blocks have none after.
                postln_in_modulation=focal["USE_POSTLN"],
                num_classes=0,
            )
        case other:
            raise ValueError(f"image encoder {other!r} is not one of: swin, focal")


def check_network(fixture: Fixture) -> list[Comparison]:
    """Every tensor of a two-tower fixture."""
    network = UniCL(config_from_yaml(fixture.config["MODEL"]))
    load(network, fixture.weights, fits)
    network.eval()
    with torch.no_grad():
        return fixture.compare(_outputs(network, fixture.inputs))


def _outputs(network: UniCL, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    image, ids, prompts = inputs["image"], inputs["input_ids"], inputs["zeroshot_input_ids"]
    tower = network.image_encoder
    outputs = {}
    match tower:
        case Swin():
            outputs["image.patch_embed"] = tower.patch_embed(image).flatten(1, 2)
            for stage, x in enumerate(tower.stages(image)):
                outputs[f"image.layer{stage}"] = x.flatten(1, 2)
            outputs["image.tokens_norm"] = tower.features(image).flatten(1, 2)
        case FocalNet():
            outputs["image.patch_embed"] = tower.patch_embed(image).flatten(1, 2)
            for stage, (x, _) in enumerate(tower.stages(image)):
                layer = tower.layers[stage]
                assert isinstance(layer, Stage)
                after = x if layer.downsample is None else layer.downsample(x.permute(0, 3, 1, 2))
                outputs[f"image.layer{stage}"] = after.flatten(1, 2)
            outputs["image.tokens_norm"] = tower.features(image).tokens.flatten(1, 2)

    outputs["image.pooled"] = tower.pooled(image)
    outputs["image.features_unnormalised"] = network.project_image(outputs["image.pooled"])
    outputs["text.last_hidden_state"] = network.text_encoder(ids)
    outputs["text.features_unnormalised"] = network.project_text(ids)
    images, texts, scale = network(image, ids)
    outputs |= {"image.features": images, "text.features": texts, "logit_scale_exp": scale.reshape(1)}
    outputs["logits_per_image"] = scale * images @ texts.T
    classes, count, _ = prompts.shape
    features = network.encode_text(prompts.flatten(0, 1)).unflatten(0, (classes, count))
    outputs["zeroshot.class_embeddings"] = class_embeddings(features)
    outputs["zeroshot.logits"] = scale * images @ outputs["zeroshot.class_embeddings"].T
    return outputs


def check_loss(fixture: Fixture) -> list[Comparison]:
    """Value, expanded labels and three gradients of every case of the loss."""
    comparisons = []
    for case in fixture.config["cases"]:
        images = torch.tensor(case["image_features"], dtype=torch.float64, requires_grad=True)
        texts = torch.tensor(case["text_features"], dtype=torch.float64, requires_grad=True)
        log_scale = torch.tensor(case["log_logit_scale"], dtype=torch.float64, requires_grad=True)
        labels = torch.tensor(case["labels"])
        loss = unicl_loss(images, texts, log_scale.exp(), labels)
        loss.backward()
        actual = {
            "expanded_labels": with_fresh_ids(labels),
            "loss": loss,
            "grad_image_features": images.grad,
            "grad_text_features": texts.grad,
            "grad_log_logit_scale": log_scale.grad,
        }
        for name, tensor in actual.items():
            expected = torch.tensor(case[name], dtype=labels.dtype if name == "expanded_labels" else torch.float64)
            comparisons.append(compare(f"{case['name']}.{name}", tensor, expected, LOSS_ATOL, LOSS_ATOL))

    return comparisons


def check_resnet(fixture: Fixture) -> list[Comparison]:
    """Every stage and the logits of a ResNet."""
    about = fixture.config["resnet"]
    config = ResNetConfig(depths=tuple(about["depths"]), width=about["width"], num_classes=about["num_classes"])
    with torch.device("meta"):
        network = ResNet(config)
    load(network, fixture.weights, lambda shapes: ())
    network.eval()
    image = fixture.inputs["image"]
    with torch.no_grad():
        outputs = {f"stage{stage}": x for stage, x in enumerate(network.stages(image))}
        return fixture.compare({**outputs, "logits": network(image)})


def check_manifest(fixture: Fixture) -> list[Comparison]:
    """Every name, shape and type of a published network, and its parameter count, without its weights."""
    with torch.device("meta"):
        network = UniCL(config_from_yaml(fixture.config["hyperparameters"]))
    return fixture.compare_manifest(network)
