"""One RegionCLIP: localisation branch, recognition branch, language encoder, under the published names.

The reference keeps the localisation branch in a file of its own and loads it by matching names, loosely: where that
fails its detections are noise, silently. Here it is a part of the network or the network has none, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from models.backbones.modified_resnet import ModifiedResNet, ModifiedResNetConfig
from models.regionclip.language import LanguageEncoder
from models.regionclip.localization import ProposalConfig, ProposalGenerator, build_backbone
from models.regionclip.recognition import BoxPredictor, RoIHeads
from models.text.clip_transformer import ClipTextConfig


@dataclass(frozen=True, slots=True)
class RegionCLIPConfig:
    """``classes`` 0: no detector was trained, so there is no box correction. ``text`` and ``proposals`` may be absent:
    class rows, or boxes, then come from outside."""

    image: ModifiedResNetConfig
    text: ClipTextConfig | None
    proposals: ProposalConfig | None = None
    classes: int = 0
    test_classes: int = 0


class RegionCLIP(nn.Module):
    """The parts; how they work together is in :mod:`models.regionclip.recognition` and ``localization``."""

    def __init__(self, config: RegionCLIPConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = ModifiedResNet(config.image)
        self.lang_encoder = LanguageEncoder(config.text, config.image.dim) if config.text else None
        predictor = BoxPredictor(config.image.dim, config.classes, config.test_classes) if config.classes else None
        self.roi_heads = RoIHeads(predictor) if predictor else None

        self.offline_backbone = build_backbone(config.proposals) if config.proposals else None
        self.offline_proposal_generator = ProposalGenerator(config.proposals) if config.proposals else None

    @property
    def corrects_boxes(self) -> bool:
        """Whether it was trained to detect, and moves the boxes that it is given."""
        return self.roi_heads is not None
