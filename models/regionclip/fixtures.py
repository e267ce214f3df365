"""Parity of RegionCLIP: RoIAlign, the recognition branch with its detections, the language encoder, published names."""

from __future__ import annotations

import json
import re

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.backbones.modified_resnet import ModifiedResNet, ModifiedResNetConfig
from models.backbones.roi_align import roi_align
from models.intake.checkpoint import load
from models.parity import Comparison, Config, Fixture, compare
from models.regionclip.detections import Detections, Rule, detections
from models.regionclip.language import OPENAI_EPS, LanguageEncoder, concept_embedding
from models.regionclip.localization import clip
from models.regionclip.network import RegionCLIP, RegionCLIPConfig
from models.regionclip.recognition import class_logits, crop
from models.regionclip.variants import VARIANTS
from models.text.clip_transformer import ClipTextConfig

DETECTIONS = "expected_detections.json"
DECIMALS_OF_SCORES, DECIMALS_OF_BOXES = 1e-5, 1e-3
"""The expected detections are written with six and four decimals."""

_CASE = re.compile(r"out\.size(\d+)\.aligned([01])\.sr(\d+)")


def is_roi_align(config: Config) -> bool:
    return "spatial_scale" in config and "layers" not in config


def is_recognition(config: Config) -> bool:
    return "pooler_resolution" in config and "image_sizes" in config


def is_language(config: Config) -> bool:
    return {"context_length", "vocab", "embed_dim"} <= config.keys()


def is_manifest(config: Config) -> bool:
    return str(config.get("variant", "")).startswith("regionclip_") and "tensors" in config


def check_roi_align(fixture: Fixture) -> list[Comparison]:
    """Every output size, with and without alignment, with a fixed and with an adaptive number of samples."""
    inputs = _inputs(fixture)
    outputs = {}
    for name in _wanted(fixture):
        if case := _CASE.fullmatch(name):
            size, aligned, sampling = int(case[1]), case[2] == "1", int(case[3])
            scale = fixture.config["spatial_scale"]
            outputs[name] = roi_align(inputs["x"], inputs["rois"], size, scale, sampling=sampling, aligned=aligned)
    return _compared(fixture, outputs)


def check_recognition(fixture: Fixture) -> list[Comparison]:
    """Every tensor from the map to the probabilities, then every detection under each of the reference's settings."""
    about = fixture.config
    side = about["pooler_resolution"] // 2
    image = ModifiedResNetConfig(
        tuple(about["layers"]), about["width"], about["attnpool_heads"], about["output_dim"], side
    )
    network = RegionCLIP(RegionCLIPConfig(image, text=None, classes=about["num_classes"]))
    load(network, fixture.weights, lambda shapes: ())
    network.eval()
    assert network.roi_heads is not None
    predictor = network.roi_heads.box_predictor
    inputs = _inputs(fixture)
    images = _batch([inputs[f"image.{index}"] for index in range(len(about["image_sizes"]))], about)
    with torch.no_grad():
        outputs = _recognition(network.backbone, images, inputs["rois"])
        features = outputs["out.region_features"]
        logits = class_logits(features, predictor.cls_score.weight, about["temperature"])
        outputs |= {"out.logits": logits, "out.probs": logits.softmax(dim=1)}
        outputs["out.bbox_deltas"] = predictor.bbox_pred(features)

    compared = _compared(fixture, outputs, {"out.logits": about["tolerance"].get("logit_atol", 0.0)})
    file = fixture.path / DETECTIONS
    if file.is_file():
        compared += _check_detections(json.loads(file.read_bytes()), outputs["out.probs"], inputs, about)
    return compared


def _recognition(backbone: ModifiedResNet, images: Tensor, rois: Tensor) -> dict[str, Tensor]:
    maps = backbone.res4(images)
    regions = crop(backbone, maps, rois)
    res5 = backbone.get_submodule("layer4")(regions)
    return {
        "mid.res4": maps,
        "mid.roi_align": regions,
        "mid.res5": res5,
        "out.region_features": backbone.attnpool(res5),
    }


def _batch(images: list[Tensor], about: Config) -> Tensor:
    """Pictures ``(3, H, W) uint8`` normalised, then padded with zeros on the right and below to the largest."""
    mean, std = torch.tensor(about["pixel_mean"])[:, None, None], torch.tensor(about["pixel_std"])[:, None, None]
    height, width = max(image.shape[1] for image in images), max(image.shape[2] for image in images)
    return torch.stack(
        [F.pad((image / 255 - mean) / std, (0, width - image.shape[2], 0, height - image.shape[1])) for image in images]
    )


def _check_detections(
    settings: Config, probabilities: Tensor, inputs: dict[str, Tensor], about: Config
) -> list[Comparison]:
    compared = []
    for setting, expected in settings.items():
        rule = Rule(
            "raw" if expected["multiply_rpn_score"] else "ignore",
            expected["score_thresh"],
            expected["nms_thresh"],
            expected["topk"],
            "probability" if expected["vis"] else "rank",
        )
        for index, ((height, width), wanted) in enumerate(zip(about["image_sizes"], expected["images"], strict=True)):
            own = inputs["rois"][:, 0] == index
            found = detections(
                probabilities[own].numpy(),
                inputs[f"objectness_logits.{index}"].numpy(),
                clip(inputs["rois"][own, 1:], height, width).numpy(),
                rule,
            )
            compared += _compare_detections(f"{setting}.{index}", found, wanted)
    return compared


def _compare_detections(name: str, found: Detections, wanted: list[Config]) -> list[Comparison]:
    """Which detections, in their order, exactly; scores and boxes to the decimals that are written."""

    def column(key: str, dtype: torch.dtype) -> Tensor:
        return torch.tensor([one[key] for one in wanted], dtype=dtype)

    ours = np.stack([found.classes, found.proposals], axis=1)
    theirs = torch.stack([column("class", torch.int64), column("proposal", torch.int64)], dim=1)
    return [
        compare(f"{name}.which", torch.from_numpy(ours), theirs, 0, 0),
        compare(f"{name}.score", torch.from_numpy(found.scores), column("score", torch.float32), DECIMALS_OF_SCORES, 0),
        compare(
            f"{name}.rank", torch.from_numpy(found.ranks), column("rank_score", torch.float32), DECIMALS_OF_SCORES, 0
        ),
        compare(f"{name}.box", torch.from_numpy(found.boxes), column("box", torch.float32), DECIMALS_OF_BOXES, 0),
    ]


def check_language(fixture: Fixture) -> list[Comparison]:
    """A vector a text, a vector a token, and a concept's from all its texts."""
    about = fixture.config
    config = ClipTextConfig(
        vocab_size=about["vocab"],
        context_length=about["context_length"],
        width=about["width"],
        heads=about["heads"],
        layers=about["layers"],
        eps=OPENAI_EPS,
    )
    network = LanguageEncoder(config, about["embed_dim"])
    weights = {name.removeprefix("lang_encoder."): tensor for name, tensor in fixture.weights.items()}
    load(network, weights, lambda shapes: ())
    network.eval()
    ids = _inputs(fixture)["tokens"]
    with torch.no_grad():
        texts = network(ids)
        outputs = {
            "out.eot": texts,
            "out.all_tokens": network.tokens(ids),
            "out.concept_mean": concept_embedding(texts)[None],
        }
    return _compared(fixture, outputs)


def check_manifest(fixture: Fixture) -> list[Comparison]:
    """Every name and shape of a published network, without its weights; the number of classes is free."""
    config = VARIANTS[fixture.config["variant"]]
    with torch.device("meta"):
        network = RegionCLIP(RegionCLIPConfig(config.image, config.text, classes=1, test_classes=1))
    stated = fixture.config["tensors"]
    theirs = {name: [1 if isinstance(n, str) else n for n in about["shape"]] for name, about in stated.items()}
    types = {name: about["dtype"] for name, about in stated.items()}
    ours = network.state_dict()
    differing = sorted(
        name
        for name in theirs.keys() | ours.keys()
        if name not in ours
        or list(ours[name].shape) != theirs.get(name)
        or str(ours[name].dtype).removeprefix("torch.") != types.get(name)
    )
    note = f"{len(theirs)} keys" + (f", differing: {', '.join(differing[:5])}" if differing else "")
    compared = [Comparison("keys", float(len(differing)), 0.0, 0.0, not differing, note)]

    for part, total in (("backbone", "backbone_params_incl_bn_affine"), ("lang_encoder", "lang_encoder_params")):
        module = network.get_submodule(part)
        number = sum(tensor.numel() for tensor in module.parameters())
        number += sum(tensor.numel() for name, tensor in module.named_buffers() if name.endswith(("weight", "bias")))
        off = abs(number - int(fixture.config["info"][total]))
        compared.append(Comparison(f"{part} parameters", float(off), 0.0, 0.0, off == 0, f"{number:,} parameters"))
    return compared


def _inputs(fixture: Fixture) -> dict[str, Tensor]:
    """What these folders name ``in.``, without that prefix."""
    return {name.removeprefix("in."): tensor for name, tensor in fixture.expected.items() if name.startswith("in.")}


def _wanted(fixture: Fixture) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in fixture.expected.items() if not name.startswith("in.")}


def _compared(fixture: Fixture, outputs: dict[str, Tensor], atols: dict[str, float] | None = None) -> list[Comparison]:
    tolerance = fixture.config["tolerance"]
    return [
        compare(name, outputs.get(name), expected, (atols or {}).get(name, tolerance["atol"]), tolerance["rtol"])
        for name, expected in _wanted(fixture).items()
    ]
