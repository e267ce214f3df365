"""The recognition branch (arXiv 2112.09106, section 3.1): boxes of a picture to vectors, vectors to classes.

Feature map of the whole picture once, RoIAlign, then the last stage and the attention pool over each region: C4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.modified_resnet import STRIDE, ModifiedResNet
from models.backbones.roi_align import roi_align

TEMPERATURE = 0.01


class BoxPredictor(nn.Module):
    """What training for detection adds: class rows, a background row that stays zero, and one box correction for all.

    Names are those under ``roi_heads.box_predictor`` in the published files. ``test_classes`` rows replace the others
    when a detector that was trained on some classes is asked for more.
    """

    def __init__(self, dim: int, classes: int, test_classes: int = 0) -> None:
        super().__init__()
        self.cls_score = nn.Linear(dim, classes, bias=False)
        self.cls_bg_score = nn.Linear(dim, 1, bias=False)
        nn.init.zeros_(self.cls_bg_score.weight)
        self.test_cls_score = nn.Linear(dim, test_classes, bias=False) if test_classes else None
        self.bbox_pred = nn.Linear(dim, 4)
        nn.init.normal_(self.bbox_pred.weight, std=0.001)
        nn.init.zeros_(self.bbox_pred.bias)


class RoIHeads(nn.Module):
    """A place for the predictor under its published name."""

    def __init__(self, predictor: BoxPredictor) -> None:
        super().__init__()
        self.box_predictor = predictor


def crop(backbone: ModifiedResNet, features: Tensor, rois: Tensor) -> Tensor:
    """``res4`` ``(B, C, H, W)`` and regions ``(N, 5)`` in pixels to ``(N, C, P, P)``, P twice the pool's side."""
    return roi_align(features, rois, 2 * backbone.config.pool_side, 1 / STRIDE)


def region_features(backbone: ModifiedResNet, images: Tensor, rois: Tensor) -> Tensor:
    """``(B, 3, H, W)``, normalised, and regions ``(N, 5)``, image number and box in pixels, to vectors ``(N, D)``."""
    return backbone.pooled(crop(backbone, backbone.res4(images), rois))


def class_logits(regions: Tensor, classes: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Vectors ``(..., N, D)`` and class rows ``(..., K, D)`` to ``(..., N, K + 1)``: cosines over the temperature.

    The last is the background, whose row is zero: 0 for every region. So a region that is unlike every class, all
    cosines below 0, is background; a row of zeros among the classes is one more background.
    """
    cosines = F.normalize(regions, dim=-1) @ F.normalize(classes, dim=-1).transpose(-1, -2)
    return torch.cat([cosines / temperature, torch.zeros_like(cosines[..., :1])], dim=-1)
