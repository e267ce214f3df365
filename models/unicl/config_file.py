"""A UniCL's configuration as JSON beside its weights, so that anybody can build the network again."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from models.backbones.focalnet import FocalNetConfig
from models.backbones.resnet import ResNetConfig
from models.backbones.swin import SwinConfig
from models.errors import ModelError
from models.text.clip_transformer import ClipTextConfig
from models.unicl.network import ImageConfig, UniCLConfig

BACKBONES: dict[str, type[ImageConfig]] = {"focalnet": FocalNetConfig, "swin": SwinConfig, "resnet": ResNetConfig}


class ConfigError(ModelError):
    """A configuration that describes no network."""


def to_json(config: UniCLConfig) -> str:
    """Every field, so that a later default changes no saved network."""
    names = {kind: name for name, kind in BACKBONES.items()}
    image = {"backbone": names[type(config.image)], **asdict(config.image)}
    return json.dumps({"image": image, "text": asdict(config.text), "dim": config.dim}, indent=1)


def from_json(text: str) -> UniCLConfig:
    """The configuration of :func:`to_json`; fields left out take their defaults. Raises :class:`ConfigError`."""
    try:
        content: dict[str, Any] = json.loads(text)
        image = dict(content["image"])
        backbone = image.pop("backbone")
        if backbone not in BACKBONES:
            raise ConfigError(f"image.backbone {backbone!r} is unknown", f"Use one of: {', '.join(BACKBONES)}.")

        return UniCLConfig(
            image=BACKBONES[backbone](**_tuples({"num_classes": 0, **image})),
            text=ClipTextConfig(**content.get("text", {})),
            dim=content.get("dim", 512),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"this is no UniCL configuration: {error}", "Compare it with docs/models/unicl.md."
        ) from error


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
