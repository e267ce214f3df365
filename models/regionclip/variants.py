"""The two published sizes of RegionCLIP (docs/MODEL_ZOO.md of the reference), and its three localisation branches."""

from __future__ import annotations

from models.backbones.modified_resnet import ModifiedResNetConfig
from models.regionclip.language import OPENAI_EPS
from models.regionclip.localization import ProposalConfig
from models.regionclip.network import RegionCLIPConfig
from models.text.clip_transformer import ClipTextConfig

VARIANTS: dict[str, RegionCLIPConfig] = {
    "regionclip_rn50": RegionCLIPConfig(ModifiedResNetConfig(), ClipTextConfig(eps=OPENAI_EPS)),
    "regionclip_rn50x4": RegionCLIPConfig(
        ModifiedResNetConfig(depths=(4, 6, 10, 6), width=80, heads=40, dim=640, pool_side=9),
        ClipTextConfig(width=640, heads=10, eps=OPENAI_EPS),
    ),
}
"""Recognition branch and language encoder; depth 200 is the reference's flag for the second."""

PROPOSALS: dict[str, ProposalConfig] = {
    "R50-FPN": ProposalConfig(),
    "R50-FPN with large-scale jitter": ProposalConfig(synced=True),
    "R50-C4": ProposalConfig(fpn=False, most=6000),
}
