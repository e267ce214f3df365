"""The fifteen published FocalNet configurations (paper, tables 1 and 3; configs/*.yaml of the reference)."""

from __future__ import annotations

from dataclasses import replace

from models.backbones.focalnet import FocalNetConfig

CLASSES_22K = 21842
"""Outputs of the ImageNet-22K heads; the first thousand stand in ImageNet-1K order."""

_TINY = FocalNetConfig(depths=(2, 2, 6, 2), embed_dim=96)
_SMALL = replace(_TINY, depths=(2, 2, 18, 2))
_BASE = replace(_SMALL, embed_dim=128)
_LRF = (3, 3, 3, 3)
_ISO = FocalNetConfig(depths=(12,), focal_levels=(3,), focal_windows=(3,), patch_size=16)
_FL3 = replace(_BASE, focal_levels=(3, 3, 3, 3), conv_embed=True, postln=True, layerscale=True, num_classes=CLASSES_22K)
_FL4 = replace(_FL3, focal_levels=(4, 4, 4, 4))
_WIDE_KERNELS = (5, 5, 5, 5)

VARIANTS: dict[str, FocalNetConfig] = {
    "focalnet_tiny_srf": _TINY,
    "focalnet_tiny_lrf": replace(_TINY, focal_levels=_LRF),
    "focalnet_small_srf": _SMALL,
    "focalnet_small_lrf": replace(_SMALL, focal_levels=_LRF),
    "focalnet_base_srf": _BASE,
    "focalnet_base_lrf": replace(_BASE, focal_levels=_LRF),
    "focalnet_tiny_iso": replace(_ISO, embed_dim=192),
    "focalnet_small_iso": replace(_ISO, embed_dim=384),
    "focalnet_base_iso": replace(_ISO, embed_dim=768, postln=True, layerscale=True),
    "focalnet_large_fl3": replace(_FL3, embed_dim=192, focal_windows=_WIDE_KERNELS),
    "focalnet_large_fl4": replace(_FL4, embed_dim=192, normalize_modulator=True),
    "focalnet_xlarge_fl3": replace(_FL3, embed_dim=256, focal_windows=_WIDE_KERNELS),
    # The classifier's yaml leaves normalize_modulator off, the detector built on the same weights turns it on;
    # the entry follows the classifier, and a catalog entry may say otherwise.
    "focalnet_xlarge_fl4": replace(_FL4, embed_dim=256),
    "focalnet_huge_fl3": replace(_FL3, embed_dim=352, postln_in_modulation=True),
    "focalnet_huge_fl4": replace(_FL4, embed_dim=352, postln_in_modulation=True),
}

DETECTION_VARIANTS: dict[str, FocalNetConfig] = {
    f"focalnet_det_backbone_{size}_{field}": replace(
        VARIANTS[f"focalnet_{size}_{field}"], focal_windows=(9, 9, 9, 9), num_classes=0, stem_padding=3, pad_input=True
    )
    for size in ("tiny", "small", "base")
    for field in ("srf", "lrf")
}
"""Backbones of the published Mask R-CNNs: wider kernels, stem padding 3, pictures padded to whole patches."""
