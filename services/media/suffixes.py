"""What file names say: which pictures are decoded, under which media type, and which are named and left out."""

from __future__ import annotations

MEDIA_TYPES = {
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".jpe": "image/jpeg", ".jfif": "image/jpeg",
    ".png": "image/png", ".webp": "image/webp", ".gif": "image/gif", ".bmp": "image/bmp",
    ".tif": "image/tiff", ".tiff": "image/tiff", ".avif": "image/avif",
}  # fmt: skip
"""Of files that are decoded, by suffix. ``.jfif`` and ``.jpe`` are JPEG."""

IMAGE_SUFFIXES = frozenset(MEDIA_TYPES)

OTHER_IMAGES = {
    ".heic": "HEIC", ".heif": "HEIC", ".hif": "HEIC", ".jp2": "JPEG 2000", ".jxl": "JPEG XL", ".svg": "SVG",
    ".psd": "Photoshop", ".dng": "raw camera", ".cr2": "raw camera", ".cr3": "raw camera", ".nef": "raw camera",
    ".arw": "raw camera", ".ico": "icon",
}  # fmt: skip
"""Pictures in formats that are not decoded here: refused by name, never passed over."""
