"""The photos of a detection set as the detector's tensors, with their boxes in its pixels: decoded when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.catalog.geometry import ImageGeometry
from services.datasets.package import Package, Stored
from services.media.image import read_picture
from services.media.intake import Limits
from services.media.preprocess import Placement, Preprocessor

SMALLEST = 2.0
"""Pixels of the tensor. A smaller box cannot be learned from: it is ignored."""


@dataclass(frozen=True, slots=True)
class Objects:
    """``boxes (G, 4)`` in pixels of the tensor, their ``labels (G,)``, and ``ignored (I, 4)``: crowds and difficult
    objects, which are neither learned nor counted as background."""

    boxes: Tensor
    labels: Tensor
    ignored: Tensor


@dataclass(frozen=True, slots=True)
class Photo:
    """``image (3, H, W) float32``, normalised, and what it shows."""

    image: Tensor
    objects: Objects
    placement: Placement


class Photos:
    """``samples`` of an open package, by number. Not for several threads at once: a package is not."""

    def __init__(self, package: Package, samples: Sequence[Stored], geometry: ImageGeometry, limits: Limits) -> None:
        self._package, self._limits = package, limits
        self.samples = list(samples)
        self._prepare = Preprocessor(geometry)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> Photo:
        stored = self.samples[number]
        picture = read_picture(self._package.read(stored), self._limits)
        placed = self._prepare.placement(picture.width, picture.height)
        image = torch.from_numpy(self._prepare.batch([picture])[0])
        return Photo(image, objects_of(stored, placed), placed)


def objects_of(stored: Stored, placed: Placement) -> Objects:
    """The boxes of a sample where its picture was placed."""
    own = stored.sample.boxes
    edges: NDArray[np.float32] = np.array([box.xyxy for box in own], np.float32).reshape(-1, 4)
    boxes = torch.from_numpy(placed.boxes_to_tensor(edges))
    labels = torch.tensor([box.label for box in own], dtype=torch.long)
    left_out = torch.tensor([box.ignore for box in own], dtype=torch.bool)
    left_out |= ((boxes[:, 2:] - boxes[:, :2]) < SMALLEST).any(dim=1)
    return Objects(boxes[~left_out], labels[~left_out], boxes[left_out])


def mirrored(photo: Photo) -> Photo:
    """Left is right. What the picture was padded with lies on its left then."""
    width = photo.image.shape[-1]

    def turned(boxes: Tensor) -> Tensor:
        return torch.stack((width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]), dim=1)

    objects = Objects(turned(photo.objects.boxes), photo.objects.labels, turned(photo.objects.ignored))
    return Photo(photo.image.flip(-1), objects, photo.placement)


def stacked(photos: Sequence[Photo], ground: Tensor) -> Tensor:
    """``(B, 3, H, W)`` of the largest, ``ground (3,)`` beside the others."""
    height, width = (max(photo.image.shape[axis] for photo in photos) for axis in (1, 2))
    batch = ground[None, :, None, None].repeat(len(photos), 1, height, width)
    for row, photo in zip(batch, photos, strict=True):
        row[:, : photo.image.shape[1], : photo.image.shape[2]] = photo.image
    return batch
