"""Segmentation masks: pictures of labels beside the pictures. Known so that they are refused by name, and never read as
classes called ``images`` and ``masks``."""

from __future__ import annotations

from pathlib import PurePosixPath

from services.datasets.formats.layout import Fit, share
from services.datasets.listing import Listing, folded
from services.datasets.samples import Parsed
from services.errors import Kind, Problem

NAME = "masks"
_FOLDERS = frozenset(
    [
        "mask",
        "masks",
        "segmentation",
        "segmentations",
        "segmentationclass",
        "segmentationobject",
        "segmentation_masks",
        "gtfine",
        "trimaps",
    ]
)


def fit(listing: Listing) -> Fit | None:
    masks = {name for name in listing.pictures if _FOLDERS & set(folded(name).split("/")[:-1])}
    stems = {_stem(name) for name in masks}
    others = [name for name in listing.pictures if name not in masks]
    paired = sum(_stem(name) in stems for name in others)
    if not masks or share(paired, len(others)) < 0.5:
        return None
    return Fit(0.85, f"{paired:,} images have a picture of the same name in a folder of masks, as {min(masks)}")


def read(listing: Listing) -> Parsed:
    raise Problem(
        Kind.INVALID,
        "dataset-masks",
        "Segmentation masks are not read",
        "The upload holds images with masks; classification, detection and captions are what data sets can be here.",
        remedy="Send boxes around the masks (COCO, YOLO or VOC), or class folders without the masks.",
    )


def _stem(name: str) -> str:
    stem = folded(PurePosixPath(name).stem)
    for ending in ("_mask", "-mask", "_gtfine_labelids", "_seg", "_label"):
        stem = stem.removesuffix(ending)
    return stem
