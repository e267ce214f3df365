"""Encoded bytes to an upright RGB picture."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import AvifImagePlugin, Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from services.errors import Kind, Problem
from services.media.exif import turn
from services.media.formats import Container, read_container
from services.media.formats.container import Format, corrupt, truncated, truncated_at, unsupported
from services.media.intake import Limits

# The decoders themselves rather than Image.open: no other format can be reached, and Pillow's process-wide
# pixel limit, which Image.open enforces, neither warns nor has to be changed. Ours comes from the header, earlier.
_DECODERS: dict[Format, type[ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "AVIF": AvifImageFile,
}
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # pictures are decoded side by side already
_STRIP = 1 << 20  # pixels scaled to 8 bits at a time: bounds the scratch memory of 16-bit images


@dataclass(frozen=True, slots=True)
class Picture:
    """``image`` is RGB and as displayed (EXIF orientation applied); ``width`` and ``height`` are its pixels."""

    image: Image.Image
    width: int
    height: int
    format: Format


def read_picture(data: bytes | memoryview, limits: Limits) -> Picture:
    """Decode an image file: first frame, alpha dropped, colour profile ignored, 16 bits scaled to 8.

    Alpha is dropped and not composited, as ``convert("RGB")`` does in the training and evaluation code of the models
    served here. Raises :class:`Problem` with one of the codes ``image-empty``, ``image-too-large``,
    ``image-unrecognised``, ``image-no-pixels``, ``image-too-many-pixels``, ``image-aspect``, ``image-too-many-frames``,
    ``image-several-pages``, ``image-truncated``, ``image-corrupt``, ``image-unsupported``; all of them but the last
    three before decoding.
    """
    return decode_picture(read_container(data if isinstance(data, bytes) else bytes(data), limits))


def decode_picture(container: Container) -> Picture:
    """The second half of :func:`read_picture`, for callers that look at the size before they decide where to decode."""
    image = _rgb(_decode(container))
    upright = turn(container.exif) if container.exif else None
    if upright is not None:
        image = image.transpose(upright)
    return Picture(image, image.width, image.height, container.format)


def _decode(container: Container) -> Image.Image:
    image: ImageFile | None = None
    if container.format == "AVIF" and not AvifImagePlugin.SUPPORTED:
        raise unsupported("AVIF", "the Pillow of this server was built without it.")
    try:
        image = _DECODERS[container.format](io.BytesIO(container.pixels))
        if image.size != (container.width, container.height):
            raise corrupt(container.format, f"its parts disagree about its size, {image.width} x {image.height}.")
        if container.format == "TIFF":
            # Made here, so that Pillow's own pixel limit plays no part.
            image.im = Image.core.new(image.mode, image.size)  # type: ignore[attr-defined]
        image.load()
    except (Problem, MemoryError):
        raise
    except Exception as error:  # Pillow raises nearly every builtin exception on broken files
        raise _broken(container, image, error) from None
    return image


def _broken(container: Container, image: ImageFile | None, error: Exception) -> Problem:
    form, size = container.format, container.size
    if isinstance(error, Image.DecompressionBombError):
        return Problem(Kind.INVALID, "image-too-many-pixels", "Image has too many pixels", f"{form}: {error}")
    if container.ended and (form != "JPEG" or b"\xff\xd9" in container.pixels):
        return corrupt(form, f"its pixel data cannot be decoded ({error}).")
    if form == "JPEG" and (rows := _rows_decoded(image)):
        return truncated_at(form, size, size * container.height // rows, about=True)
    return truncated(form, f"{form} ends after {size:,} bytes, inside its pixel data.")


def _rows_decoded(image: ImageFile | None) -> int:
    """Rows of a baseline JPEG that were finished when its bytes ran out: the rest is still zero."""
    if image is None or getattr(image, "_im", None) is None:
        return 0
    box = image.im.getbbox()
    return int(box[3]) if box and box[3] < image.height else 0


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        return _eight_bits(image).convert("RGB")
    if image.mode == "La":  # premultiplied gray, which has no way of its own to RGB
        image = image.convert("LA")
    image.info.pop("transparency", None)  # it would only make Pillow warn that convert() drops it
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit gray to ``L``: 65535 becomes 255, rounded, where Pillow's own conversion would clip at 255."""
    deep = np.asarray(image)
    gray = np.empty(deep.shape, np.uint8)
    rows = max(1, _STRIP // deep.shape[1])
    for begin in range(0, deep.shape[0], rows):
        strip = deep[begin : begin + rows].astype(np.uint32)
        strip *= 255
        strip += 32767
        strip //= 65535
        gray[begin : begin + rows] = strip
    return Image.fromarray(gray)
