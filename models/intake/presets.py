"""Named preprocessing for imported image models: what the usual training recipes do to a picture."""

from __future__ import annotations

import re
from collections.abc import Callable

from models.catalog.geometry import ImageGeometry, ImagePreprocess, LongerSide, ShorterSide, Stretched
from models.errors import ModelError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
UNIT = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
GREY = (114, 114, 114)

PRESETS: dict[str, tuple[str, Callable[[int], ImageGeometry]]] = {
    "imagenet": (
        "shorter side to N / 0.875, bilinear, centre crop, ImageNet mean and std (torchvision)",
        lambda size: _spec(size, IMAGENET, resize=int(size / 0.875), interpolation="bilinear"),
    ),
    "clip": (
        "shorter side to N, bicubic, centre crop, CLIP mean and std",
        lambda size: _spec(size, CLIP, resize=size),
    ),
    "half": (
        "shorter side to N / 0.875, bicubic, centre crop, values from -1 to 1",
        lambda size: _spec(size, HALF, resize=int(size / 0.875)),
    ),
    "unit": (
        "both sides to N whatever the aspect, bilinear, values from 0 to 1",
        lambda size: _spec(size, UNIT, mode="squash", interpolation="bilinear"),
    ),
    "yolo": (
        "longer side to N, bilinear, padded on both sides to a square with grey 114, values from 0 to 1 (YOLOv5 to 11)",
        lambda size: LongerSide(size=size, mean=UNIT[0], std=UNIT[1], fill=GREY, centred=True),
    ),
    "yolox": (
        "longer side to N, bilinear, padded to a square with grey 114, blue first, values from 0 to 255",
        lambda size: LongerSide(size=size, mean=UNIT[0], std=(1 / 255,) * 3, fill=GREY, channels="bgr"),
    ),
    "detr": (
        "shorter side to N, longer at most 5 N / 3, bilinear, ImageNet mean and std",
        lambda size: ShorterSide(size=size, max_size=size * 5 // 3),
    ),
    "whole": (
        "longer side to N, bilinear, padded to a square with the mean, ImageNet mean and std",
        lambda size: LongerSide(size=size),
    ),
}
"""What each preset does, and the function from N to the specification."""

LEAST_SIDE, MOST_SIDE = 8, 2048

_FORM = re.compile(r"([a-z]+)-([1-9][0-9]{0,3})")
_RECTANGLE = re.compile(r"(imagenet|clip|half|unit)-([1-9][0-9]{1,3})x([1-9][0-9]{1,3})")
_SCALES = {"imagenet": IMAGENET, "clip": CLIP, "half": HALF, "unit": UNIT}


def preset(text: str) -> ImageGeometry:
    """``imagenet-224`` and its like, ``half-320x240``; raises :class:`ModelError` that lists the presets."""
    rectangle = _RECTANGLE.fullmatch(text)
    if rectangle is not None:
        width, height = int(rectangle[2]), int(rectangle[3])
        if min(width, height) >= LEAST_SIDE and max(width, height) <= MOST_SIDE:
            mean, std = _SCALES[rectangle[1]]
            return Stretched(width=width, height=height, mean=mean, std=std)
    match = _FORM.fullmatch(text)
    if match is None or match[1] not in PRESETS or not LEAST_SIDE <= int(match[2]) <= MOST_SIDE:
        known = "; ".join(f"{name}-N: {about}" for name, (about, _) in PRESETS.items())
        raise ModelError(
            f"no preprocessing {text!r}",
            f"take one of these, N being the side in pixels ({LEAST_SIDE} to {MOST_SIDE}). {known}; imagenet-WxH, "
            "clip-WxH, half-WxH, unit-WxH: stretched to W by H whatever the aspect",
        )
    return PRESETS[match[1]][1](int(match[2]))


def _spec(
    size: int, scale: tuple[tuple[float, float, float], tuple[float, float, float]], **changes: object
) -> ImagePreprocess:
    mean, std = scale
    return ImagePreprocess.model_validate({"size": size, "mean": mean, "std": std, **changes})
