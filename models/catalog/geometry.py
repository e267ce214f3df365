"""How a picture becomes a tensor: data that a card carries, one form a way of fitting pictures to a network."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from models.catalog.old_cards import upgrade_image

Interpolation = Literal["bilinear", "bicubic", "lanczos", "nearest"]
Triple = tuple[float, float, float]
Fill = tuple[int, int, int] | Literal["mean"]
"""What lies beside the picture: a colour of 0 to 255, or what is 0 once it is normalised."""
Channels = Annotated[Literal["rgb", "bgr"], Field(exclude_if=lambda order: order == "rgb")]
"""In which order the tensor has them; ``mean``, ``std`` and ``fill`` are those of red, green and blue all the same.

The usual order is not written, so that earlier releases read a card as they always did.
"""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TYPICAL = 224
"""Pixels of a side where pictures come in any size."""


class _Geometry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImagePreprocess(_Geometry):
    """Picture to ``(3, size, size) float32``: resize, crop, then ``(pixel / 255 - mean) / std`` per RGB channel.

    ``mode`` ``shorter-crop`` scales the shorter side to ``resize`` and cuts the centre; ``squash`` scales both
    sides to ``size`` whatever the aspect.
    """

    input: str = "image"
    size: int = Field(ge=8, le=2048)
    resize: int | None = Field(default=None, description="Shorter side before the crop; size / 0.875 when absent")
    mode: Literal["shorter-crop", "squash"] = "shorter-crop"
    interpolation: Interpolation = "bicubic"
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    channels: Channels = "rgb"

    @property
    def side(self) -> int:
        """Height and width of the tensor of a square picture."""
        return self.size


class Stretched(_Geometry):
    """Picture to ``(3, height, width) float32`` whatever its aspect, as SSD and many detectors take pictures."""

    mode: Literal["stretched"] = "stretched"
    input: str = "image"
    width: int = Field(ge=8, le=4096)
    height: int = Field(ge=8, le=4096)
    interpolation: Interpolation = "bilinear"
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    channels: Channels = "rgb"

    @property
    def side(self) -> int:
        """The longer side of every tensor."""
        return max(self.width, self.height)


class _Uncropped(_Geometry):
    """The whole picture, its aspect kept, at the upper left; ``fill`` lies to the right of it and below."""

    input: str = "image"
    interpolation: Interpolation = "bilinear"
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    channels: Channels = "rgb"
    fill: Fill = "mean"


class LongerSide(_Uncropped):
    """The longer side becomes ``size``, as SAM and YOLO take pictures; halves of a pixel are rounded up.

    Padded to a square of ``size``, or each side to the next ``multiple`` where one is named; on both sides alike where
    the picture is ``centred`` (YOLOv5's letterbox, the odd pixel to the right and below).
    """

    mode: Literal["longer-side"] = "longer-side"
    size: int = Field(ge=8, le=4096)
    multiple: int | None = Field(default=None, ge=1, le=256)
    centred: bool = False

    @property
    def side(self) -> int:
        """Height and width of the tensor of a square picture."""
        return self.size if self.multiple is None else next_multiple(self.size, self.multiple)


class ShorterSide(_Uncropped):
    """The shorter side becomes ``size`` unless the longer would exceed ``max_size``, as DETR takes pictures.

    The other side is rounded down, as by torchvision's ``Resize(size, max_size)``; each is padded to a ``multiple``.
    """

    mode: Literal["shorter-side"] = "shorter-side"
    size: int = Field(ge=8, le=4096)
    max_size: int = Field(ge=8, le=8192)
    multiple: int = Field(default=1, ge=1, le=256)

    @property
    def side(self) -> int:
        """Height and width of the tensor of a square picture."""
        return next_multiple(min(self.size, self.max_size), self.multiple)


class Native(_Uncropped):
    """The picture's own pixels, each side padded to a ``multiple``; only what exceeds ``max_size`` is scaled down."""

    mode: Literal["native"] = "native"
    max_size: int = Field(default=2048, ge=8, le=8192)
    multiple: int = Field(default=1, ge=1, le=256)

    @property
    def side(self) -> int:
        """Height and width of the tensor of a square picture of a usual size."""
        return next_multiple(min(TYPICAL, self.max_size), self.multiple)


ImageGeometry = Annotated[
    Annotated[ImagePreprocess | LongerSide | ShorterSide | Native | Stretched, Field(discriminator="mode")],
    BeforeValidator(upgrade_image),
]
"""Told apart by ``mode``."""


class VideoClip(_Geometry):
    """A film to ``(T, 3, H, W) float32``: ``frames`` pictures of it, each by ``frame``.

    ``sampling`` ``uniform`` takes the middles of equal parts of the whole film; ``stride`` every ``stride``-th frame
    around its middle.
    """

    input: str = "video"
    frames: int = Field(ge=1, le=256)
    sampling: Literal["uniform", "stride"] = "uniform"
    stride: int = Field(default=1, ge=1)
    frame: ImageGeometry


def fixed_size(geometry: ImageGeometry) -> tuple[int, int] | None:
    """Height and width of every tensor, where all of them are of one size."""
    match geometry:
        case ImagePreprocess() | LongerSide(multiple=None):
            return geometry.size, geometry.size
        case Stretched():
            return geometry.height, geometry.width
        case _:
            return None


def next_multiple(length: int, multiple: int) -> int:
    """``length`` rounded up.

    >>> next_multiple(225, 32)
    256
    """
    return -(-length // multiple) * multiple
