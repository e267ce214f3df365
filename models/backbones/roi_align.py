"""RoIAlign (Mask R-CNN, arXiv 1703.06870, section 3) without a custom operator.

A bilinear sample is a product of two hat functions, one a side, and the samples of a bin form a grid. So the mean over
a bin is two matrix products, rows then columns, whatever the number of samples: exact, differentiable in the features,
and as fast as matrix products are. In an ONNX file it is the standard operator of the name.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOST_AT_ONCE = 2**24
"""Numbers of the intermediate product that are held at a time, 64 MiB: more regions are done in parts."""


def roi_align(
    features: Tensor, rois: Tensor, size: int, scale: float, *, sampling: int = 0, aligned: bool = True
) -> Tensor:
    """``(B, C, H, W)`` and regions ``(N, 5)`` to ``(N, C, size, size)``, as ``torchvision.ops.roi_align``.

    A region is the number of its image and left, top, right, bottom in pixels of the image, of which the map has
    ``scale`` a pixel. ``sampling`` is how many samples a side of a bin has; 0: as many as it has cells of the map.
    ``aligned`` shifts by half a cell, as pixels' centres are (``ROIAlignV2`` of detectron2); without it a region is at
    least one cell large. A region that ends before it begins has no sample and is 0. Gradients go to ``features``
    alone.

    >>> roi_align(torch.ones(1, 2, 8, 8), torch.tensor([[0.0, 0, 0, 64, 64]]), 7, 1 / 8).shape
    torch.Size([1, 2, 7, 7])
    """
    if torch.onnx.is_in_onnx_export():
        return _as_operator(features, rois, size, scale, sampling, aligned)

    height, width = features.shape[2:]
    corners = rois[:, 1:].detach() * scale - (0.5 if aligned else 0.0)
    rows = _side_weights(corners[:, 1], corners[:, 3], size, height, sampling, aligned)
    columns = _side_weights(corners[:, 0], corners[:, 2], size, width, sampling, aligned)

    image_of = rois[:, 0].long()
    parts, places = [], []
    most = max(1, MOST_AT_ONCE // (size * features.shape[1] * width))
    for image in range(len(features)):
        own = (image_of == image).nonzero().flatten()
        for some in own.split(most):
            parts.append(_pooled(features[image], rows[some].to(features.dtype), columns[some].to(features.dtype)))
            places.append(some)

    if not parts:
        return features.new_zeros(0, features.shape[1], size, size)
    return torch.cat(parts)[torch.cat(places).argsort()]


def with_image_numbers(boxes: Tensor) -> Tensor:
    """Boxes ``(B, N, 4)`` of every image of a batch to regions ``(B * N, 5)``."""
    batch, number = boxes.shape[:2]
    images = torch.arange(batch, device=boxes.device, dtype=boxes.dtype)[:, None, None].expand(batch, number, 1)
    return torch.cat([images, boxes], dim=2).flatten(0, 1)


def _pooled(features: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """``(C, H, W)`` of one image with weights ``(N, P, H)`` and ``(N, P, W)`` to ``(N, C, P, P)``."""
    channels, height, width = features.shape
    number, size = rows.shape[:2]
    by_row = features.transpose(0, 1).reshape(height, channels * width)
    bands = rows.reshape(number * size, height) @ by_row  # (N * P, C * W)
    bins = bands.reshape(number, size * channels, width) @ columns.transpose(1, 2)  # (N, P * C, P)
    return bins.reshape(number, size, channels, size).transpose(1, 2)


def _side_weights(low: Tensor, high: Tensor, size: int, cells: int, sampling: int, aligned: bool) -> Tensor:
    """How much of each cell is in each bin along one side, ``(N, size, cells)``.

    ``low`` and ``high`` ``(N,)`` are where the regions begin and end, in cells of the map.
    """
    extent = high - low if aligned else (high - low).clamp(min=1.0)
    step = extent / size
    samples = torch.full_like(extent, sampling) if sampling else step.ceil().clamp(min=0)  # (N,)
    bins, grid = torch.arange(size, device=low.device), torch.arange(cells, device=low.device)

    weights = low.new_zeros(len(low), size, cells)
    for index in range(int(samples.max()) if len(samples) else 0):
        share = (index + 0.5) / samples.clamp(min=1)
        place = low[:, None] + (bins + share[:, None]) * step[:, None]  # (N, size)
        counted = (index < samples)[:, None] & (place >= -1) & (place <= cells)
        nearness = 1 - (place.clamp(0, cells - 1)[:, :, None] - grid).abs()
        weights += nearness.clamp(min=0) * counted[:, :, None]
    return weights / samples.clamp(min=1)[:, None, None]


def _as_operator(features: Tensor, rois: Tensor, size: int, scale: float, sampling: int, aligned: bool) -> Tensor:
    """The node that an exported graph has in place of all this."""
    return torch.onnx.ops.symbolic(
        "RoiAlign",
        (features, rois[:, 1:], rois[:, 0].long()),
        attrs={
            "coordinate_transformation_mode": "half_pixel" if aligned else "output_half_pixel",
            "mode": "avg",
            "output_height": size,
            "output_width": size,
            "sampling_ratio": sampling,
            "spatial_scale": scale,
        },
        dtype=features.dtype,
        shape=(rois.shape[0], features.shape[1], size, size),
    )
