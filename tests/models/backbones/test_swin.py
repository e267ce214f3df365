"""Swin beyond parity: windows, masks and sizes that cannot work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from models.backbones.swin import Swin, SwinConfig, partition, shift_mask, unpartition

TINY = SwinConfig(image_size=64, embed_dim=8, depths=(2, 2), heads=(2, 2), window=4, num_classes=3)


def test_windows_can_be_put_together_again() -> None:
    x = torch.randn(3, 8, 12, 5)
    windows = partition(x, 4)
    assert windows.shape == (3, 6, 16, 5)
    assert torch.equal(windows[1, 4].reshape(4, 4, 5), x[1, 4:8, 4:8])
    assert torch.equal(unpartition(windows, 4, 8, 12), x)


def test_mask_parts_places_that_were_never_neighbours() -> None:
    mask = shift_mask(8, 4, 2)
    assert mask.shape == (4, 16, 16)
    assert not mask[0].any()  # the first window lies whole inside the picture
    assert mask[3, 0, 15] == -100.0  # the last joins all four corners of the picture
    assert mask[3, 0, 1] == 0.0


def test_pictures_of_a_batch_do_not_touch_each_other() -> None:
    torch.manual_seed(0)
    model = Swin(TINY).eval()
    images = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(images)[2:3], model(images[2:3]))


def test_last_stage_of_one_window_is_not_shifted() -> None:
    model = Swin(SwinConfig(image_size=32, embed_dim=8, depths=(2, 2), heads=(2, 2), window=4))
    assert [block.shift for stage in model.layers for block in stage.blocks] == [0, 2, 0, 0]


def test_picture_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="takes 64 x 64"):
        Swin(TINY)(torch.randn(1, 3, 64, 32))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"image_size": 66}, "multiple of the patch"),
        ({"image_size": 80}, "cannot be cut into windows"),
        ({"image_size": 36, "window": 9}, "cannot be halved"),
        ({"depths": (2, 2, 2)}, "one entry for every stage"),
    ],
)
def test_sizes_that_cannot_work_are_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        replace(TINY, **changes)
