"""Modulated deformable convolution (DCNv2, arXiv 1811.11168) without an operator of its own.

Samples are rows gathered from the map as it lies in memory with channels last, so that the work is one pass over
contiguous rows and one matrix product. ``csrc/cuda/deform_conv_cuda.cu`` of microsoft/GLIP is what it computes, also
where that reads offsets of another size than its output: see :func:`flat_view`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

TAPS = 9
"""Of a 3 x 3 kernel: rows from above, columns from the left."""


def deform_conv(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, stride: int = 1) -> Tensor:
    """A 3 x 3 convolution with padding 1 whose taps read ``x`` where ``offset`` says, weighted by ``mask``.

    ``x (B, C, H, W)``, ``offset (B, 18, h, w)`` with (dy, dx) for each tap, ``mask (B, 9, h, w)``, ``weight
    (D, C / groups, 3, 3)``, ``bias (D,)``, all float, to ``(B, D, h, w)``, channels last in memory. What lies outside
    the map is zero. The size is that of ``offset``; where it is not what ``stride`` makes of ``x``, see
    :func:`flat_view`.
    """
    height, width = offset.shape[2:]
    rows, columns = sampling_places(offset, stride)  # (B, h, w, 9) each
    samples = sample(x, rows, columns, mask.permute(0, 2, 3, 1))  # (B, h * w, 9, C)

    groups = x.shape[1] // weight.shape[1]
    if groups == 1:
        kernel = weight.permute(0, 2, 3, 1).reshape(weight.shape[0], -1)  # (D, 9 * C)
        out = F.linear(samples.flatten(2), kernel, bias)
    else:
        parts = torch.unflatten(samples, 3, (groups, -1))  # (B, h * w, 9, groups, C / groups)
        kernel = torch.unflatten(weight.flatten(2), 0, (groups, -1))  # (groups, D / groups, C / groups, 9)
        out = torch.einsum("bntgc,gdct->bngd", parts, kernel).flatten(2) + bias
    return out.reshape(-1, height, width, out.shape[2]).permute(0, 3, 1, 2)


def flat_view(x: Tensor, height: int, width: int) -> Tensor:
    """The first ``C * height * width`` numbers of each picture's ``(C, H, W)`` as ``(B, C, height, width)``.

    GLIP's kernel takes offsets of a finer level for the convolution of a coarser one, and walks them as if they had
    the coarser size. Its weights were trained so (issues 52 and 62 of microsoft/GLIP).
    """
    channels = x.shape[1]
    flat = x.reshape(x.shape[0], -1)
    kept = torch.arange(channels * height * width, device=x.device)
    return flat.index_select(1, kept).reshape(-1, channels, height, width)


def sampling_places(offset: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """``(B, 18, h, w)`` to the row and the column that each tap reads, ``(B, h, w, 9)`` each, fractional."""
    height, width = offset.shape[2:]
    tap = torch.arange(TAPS, device=offset.device)
    down = torch.arange(height, device=offset.device)[:, None] * stride - 1 + tap // 3  # (h, 9)
    right = torch.arange(width, device=offset.device)[:, None] * stride - 1 + tap % 3  # (w, 9)
    moved = offset.reshape(-1, TAPS, 2, height, width).permute(2, 0, 3, 4, 1)  # (2, B, h, w, 9)
    return moved[0] + down[:, None], moved[1] + right


def sample(x: Tensor, rows: Tensor, columns: Tensor, weight: Tensor) -> Tensor:
    """Bilinear samples of ``x (B, C, H, W)`` at fractional places ``(B, h, w, T)``, times ``weight`` of that shape.

    ``(B, h * w, T, C)``; a neighbour outside the map counts as zero.
    """
    batch, channels, height, width = x.shape
    table = x.permute(0, 2, 3, 1).reshape(-1, channels)  # (B * H * W, C)
    first = torch.arange(batch, device=x.device)[:, None, None, None] * (height * width)

    top, left = rows.floor(), columns.floor()
    down, right = rows - top, columns - left
    out: Tensor | None = None
    for row, share_down in ((top, 1 - down), (top + 1, down)):
        for column, share_right in ((left, 1 - right), (left + 1, right)):
            inside = (row >= 0) & (row <= height - 1) & (column >= 0) & (column <= width - 1)
            share = share_down * share_right * weight * inside
            place = first + row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
            part = table.index_select(0, place.flatten()) * share.reshape(-1, 1)
            out = part if out is None else out + part
    assert out is not None
    return out.reshape(batch, -1, rows.shape[-1], channels)
