"""Make objects of drawings: random pose, light and colour on white, plain, shaded and photographed backgrounds."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


class Augment:
    """``(B, 64, 64, 4) uint8`` RGBA drawings to ``(B, 3, size, size) float32`` in 0..1, in batched tensor code.

    ``photos`` ``(P, 3, H, W)`` in 0..1 are cut for backgrounds. ``strength`` 0..1 scales every distortion.
    """

    def __init__(self, photos: Tensor, generator: torch.Generator) -> None:
        self._photos = photos
        self._generator = generator

    def __call__(self, drawings: Tensor, size: int, strength: float, mirror: Tensor) -> Tensor:
        """``mirror`` ``(B,) bool``: which may be flipped (arrows and letters may not)."""
        rgba = drawings.permute(0, 3, 1, 2).float() / 255
        count = len(rgba)
        rgba = torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], dim=1)  # premultiplied, so that edges stay clean
        grid = F.affine_grid(self._poses(count, strength, mirror), [count, 4, size, size], align_corners=False)
        rgba = F.interpolate(rgba, size=(size, size), mode="area") if size < rgba.shape[-1] else rgba
        rgba = F.grid_sample(rgba, grid, padding_mode="zeros", align_corners=False)
        colour, alpha = rgba[:, :3], rgba[:, 3:]
        colour = self._recolour(colour, alpha, strength)
        image = colour + (1 - alpha) * self._backgrounds(count, size, strength)
        return self._degrade(image, strength).clamp(0, 1)

    def _uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=self._generator)

    def _poses(self, count: int, strength: float, mirror: Tensor) -> Tensor:
        """Inverse affine maps ``(B, 2, 3)``: rotation to 30 degrees, scale 0.6 to 1.15, shear and shift."""
        angle = self._uniform(count, low=-1, high=1) * math.radians(30) * strength
        scale = 1 / (1 + strength * self._uniform(count, low=-0.4, high=0.15))
        stretch = 1 + strength * self._uniform(count, low=-0.15, high=0.15)
        shear = strength * self._uniform(count, low=-0.2, high=0.2)
        flip = torch.where((self._uniform(count) < 0.25) & mirror, -1.0, 1.0)
        cos, sin = angle.cos(), angle.sin()
        first = torch.stack([flip * scale * stretch * cos, flip * scale * (shear - sin)], dim=1)
        second = torch.stack([scale * sin, scale / stretch * cos], dim=1)
        shift = strength * self._uniform(count, 2, low=-0.15, high=0.15)
        return torch.stack([torch.cat([first, shift[:, :1]], 1), torch.cat([second, shift[:, 1:]], 1)], dim=1)

    def _recolour(self, colour: Tensor, alpha: Tensor, strength: float) -> Tensor:
        """Mix channels, change contrast, lay soft light and shade over the drawing (a hint of a third dimension)."""
        count = len(colour)
        mix = torch.eye(3) + strength * 0.15 * torch.randn(count, 3, 3, generator=self._generator)
        colour = torch.einsum("bij,bjhw->bihw", mix, colour)
        grey = (self._uniform(count, 1, 1, 1) < 0.1 * strength).float()
        colour = grey * colour.mean(dim=1, keepdim=True) + (1 - grey) * colour
        light = F.interpolate(torch.randn(count, 1, 3, 3, generator=self._generator), colour.shape[-2:], mode="bicubic")
        colour = colour * (1 + strength * 0.25 * light) + alpha * strength * self._uniform(
            count, 1, 1, 1, low=-0.12, high=0.12
        )
        return torch.minimum(colour.clamp(min=0), alpha)

    def _backgrounds(self, count: int, size: int, strength: float) -> Tensor:
        kind = self._uniform(count, 1, 1, 1)
        corners = self._uniform(count, 3, 2, 2)
        shaded = F.interpolate(corners, (size, size), mode="bilinear", align_corners=True)
        plain = corners[:, :, :1, :1].expand(-1, -1, size, size)
        white = 0.35 + 0.45 * (1 - strength)
        back = torch.where(kind < white, torch.ones_like(plain), plain)
        back = torch.where(kind > white + 0.15, shaded, back)
        busy = (kind > white + 0.3).flatten().nonzero().flatten()
        if len(busy):
            back[busy] = self.crops(len(busy), size)
        return back

    def crops(self, count: int, size: int) -> Tensor:
        """Square cuts of the photos, ``(count, 3, size, size)``."""
        which = torch.randint(len(self._photos), (count,), generator=self._generator)
        zoom = self._uniform(count, low=0.15, high=0.6)
        centre = self._uniform(count, 2, low=-1, high=1) * (1 - zoom[:, None])
        scale = torch.diag_embed(zoom[:, None].expand(-1, 2))
        grid = F.affine_grid(torch.cat([scale, centre[:, :, None]], dim=2), [count, 3, size, size], align_corners=False)
        return F.grid_sample(self._photos[which], grid, padding_mode="reflection", align_corners=False)

    def _degrade(self, image: Tensor, strength: float) -> Tensor:
        """Blur by going down and up, noise, and a grey patch over a part."""
        count, _, height, width = image.shape
        blurred = F.interpolate(F.avg_pool2d(image, 2), (height, width), mode="bilinear")
        blur = self._uniform(count, 1, 1, 1) < 0.2 * strength
        image = torch.where(blur, blurred, image)
        image = image + strength * 0.03 * torch.randn(image.shape, generator=self._generator)
        side = int(0.3 * height)
        top = torch.randint(0, height - side, (count, 1, 1, 1), generator=self._generator)
        left = torch.randint(0, width - side, (count, 1, 1, 1), generator=self._generator)
        rows, columns = torch.arange(height)[:, None], torch.arange(width)[None, :]
        patch = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
        covered = self._uniform(count, 1, 1, 1) < 0.25 * strength
        return torch.where(patch & covered, torch.full_like(image, 0.5), image)


def flattened(drawings: Tensor, size: int, backgrounds: Tensor | None) -> Tensor:
    """Drawings ``(N, 64, 64, 4) uint8`` unmoved on ``backgrounds`` ``(N, 3, size, size)``, or on white."""
    rgba = drawings.permute(0, 3, 1, 2).float() / 255
    rgba = torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], dim=1)
    rgba = F.interpolate(rgba, size=(size, size), mode="area") if size < rgba.shape[-1] else rgba
    return rgba[:, :3] + (1 - rgba[:, 3:]) * (1 if backgrounds is None else backgrounds)
