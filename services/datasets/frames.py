"""Boxes to pixels of the image as it is displayed: an annotation may speak of the stored one, or of none."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image

from services.datasets.samples import Box, Sample

Size = tuple[float, float]

_MATCH = 1.0
"""Pixels by which a written size may differ: tools round."""


def place_boxes(sample: Sample, stored: Size, shown: Size, turned: Image.Transpose | None) -> Sample | str:
    """``sample`` with boxes in the pixels of the displayed image; a text where they cannot be.

    ``stored`` and ``shown`` are the width and height before and after EXIF's orientation. A size that the annotation
    names must be one of the two: boxes drawn in the stored frame are ``turned`` as the image is. Half a pixel beyond an
    edge is rounding.
    """
    if sample.relative:
        boxes = [_scaled(box, shown) for box in sample.boxes]
        return replace(sample, boxes=tuple(boxes))
    boxes = list(sample.boxes)

    if sample.frame is not None and not _same(sample.frame, shown):
        if not _same(sample.frame, stored):
            width, height = sample.frame
            return (
                f"its annotation is for {width:g} x {height:g} pixels, the image has {shown[0]:g} x {shown[1]:g}: "
                "one of them was resized, or the sides are swapped"
            )
        boxes = [replace(box, xyxy=_turned(box.xyxy, stored, turned)) for box in boxes]

    for box in boxes:
        if box.xyxy[2] > shown[0] + 0.5 or box.xyxy[3] > shown[1] + 0.5:
            return f"box {box.xyxy} lies outside of the {shown[0]:g} x {shown[1]:g} image"
    return replace(sample, boxes=tuple(boxes))


def _same(one: Size, other: Size) -> bool:
    return abs(one[0] - other[0]) <= _MATCH and abs(one[1] - other[1]) <= _MATCH


def _scaled(box: Box, size: Size) -> Box:
    x0, y0, x1, y1 = box.xyxy
    return replace(box, xyxy=(x0 * size[0], y0 * size[1], x1 * size[0], y1 * size[1]))


def _turned(
    box: tuple[float, float, float, float], stored: Size, turned: Image.Transpose | None
) -> tuple[float, float, float, float]:
    """A box of the stored image where Pillow's ``transpose`` puts it."""
    (w, h), (x0, y0, x1, y1) = stored, box
    match turned:
        case Image.Transpose.FLIP_LEFT_RIGHT:
            return w - x1, y0, w - x0, y1
        case Image.Transpose.ROTATE_180:
            return w - x1, h - y1, w - x0, h - y0
        case Image.Transpose.FLIP_TOP_BOTTOM:
            return x0, h - y1, x1, h - y0
        case Image.Transpose.TRANSPOSE:
            return y0, x0, y1, x1
        case Image.Transpose.ROTATE_270:  # a quarter clockwise
            return h - y1, x0, h - y0, x1
        case Image.Transpose.TRANSVERSE:
            return h - y1, w - x1, h - y0, w - x0
        case Image.Transpose.ROTATE_90:  # a quarter anticlockwise
            return y0, w - x1, y1, w - x0

    return box
