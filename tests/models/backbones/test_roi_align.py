"""RoIAlign against a sample-by-sample reading of its definition, its gradient, and regions that are hardly any."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from models.backbones import roi_align as module
from models.backbones.roi_align import roi_align, with_image_numbers

SIZE, SCALE = 3, 1 / 8


def sample(features: Tensor, y: float, x: float) -> Tensor:
    """Bilinear at one point of ``(C, H, W)``; 0 more than a cell outside."""
    height, width = features.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return torch.zeros(len(features), dtype=features.dtype)
    y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    upper = features[:, top, left] * (1 - dx) + features[:, top, right] * dx
    lower = features[:, bottom, left] * (1 - dx) + features[:, bottom, right] * dx
    return upper * (1 - dy) + lower * dy


def by_definition(features: Tensor, roi: list[float], sampling: int, aligned: bool) -> Tensor:
    image = int(roi[0])
    left, top, right, bottom = (side * SCALE - 0.5 * aligned for side in roi[1:])
    width, height = right - left, bottom - top
    if not aligned:
        width, height = max(width, 1.0), max(height, 1.0)
    across, down = (sampling or max(math.ceil(side / SIZE), 0) for side in (width, height))
    found = torch.zeros(features.shape[1], SIZE, SIZE, dtype=features.dtype)
    for p in range(SIZE):
        for q in range(SIZE):
            for i in range(down):
                for j in range(across):
                    y = top + (p + (i + 0.5) / down) * height / SIZE
                    x = left + (q + (j + 0.5) / across) * width / SIZE
                    found[:, p, q] += sample(features[image], y, x) / (down * across)
    return found


ROIS = [
    [0.0, 3.0, 5.0, 60.0, 71.0],
    [1.0, -30.0, -12.0, 20.0, 200.0],
    [1.0, 8.0, 8.0, 9.0, 8.5],
    [0.0, 16.0, 16.0, 16.0, 16.0],
    [0.0, 300.0, 10.0, 400.0, 20.0],
    [1.0, 50.0, 50.0, 10.0, 20.0],
]


def features(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(2, 3, 9, 7, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling", [0, 2])
def test_every_bin_is_the_mean_of_its_samples(aligned: bool, sampling: int) -> None:
    x = features()
    found = roi_align(x, torch.tensor(ROIS, dtype=torch.float64), SIZE, SCALE, sampling=sampling, aligned=aligned)
    for one, roi in zip(found, ROIS, strict=True):
        torch.testing.assert_close(one, by_definition(x, roi, sampling, aligned))


def test_gradient_is_that_of_the_answer() -> None:
    """It is linear in the features: the gradient of a weighted sum, times other features, is their weighted sum."""
    x, other = features().requires_grad_(), features().flip(0, 1, 2, 3)
    rois = torch.tensor(ROIS, dtype=torch.float64)
    answer = roi_align(x, rois, SIZE, SCALE)
    weights = torch.randn(answer.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((answer * weights).sum(), x)
    torch.testing.assert_close((gradient * other).sum(), (roi_align(other, rois, SIZE, SCALE) * weights).sum())


def test_many_regions_are_done_in_parts_that_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, rois = features(), torch.tensor(ROIS * 3, dtype=torch.float64)
    whole = roi_align(x, rois, SIZE, SCALE)
    monkeypatch.setattr(module, "MOST_AT_ONCE", 2 * SIZE * 3 * 7)  # two regions at a time
    torch.testing.assert_close(roi_align(x, rois, SIZE, SCALE), whole)


def test_no_region_gives_no_answer() -> None:
    assert roi_align(features(), torch.zeros(0, 5), SIZE, SCALE).shape == (0, 3, SIZE, SIZE)


def test_boxes_of_a_batch_are_told_by_the_number_of_their_image() -> None:
    boxes = torch.arange(16.0).reshape(2, 2, 4)
    assert with_image_numbers(boxes)[:, 0].tolist() == [0, 0, 1, 1]
    assert torch.equal(with_image_numbers(boxes)[:, 1:], boxes.flatten(0, 1))
