"""Images in, whatever they are: a path, bytes, a Pillow image, an array, an address."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.client.errors import SightlineError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    ImageLike = str | Path | bytes | bytearray | memoryview | Image | NDArray[np.uint8]
    """A path; encoded bytes; a Pillow image; ``(H, W)`` or ``(H, W, 3) uint8``; or as text a ``https://`` address, a
    ``data:`` URI or an ``artifact:`` reference, which are passed on as they are."""
else:
    ImageLike = object

_PASSED_ON = ("https://", "http://", "data:", "artifact:")


class ImageError(SightlineError):
    """A value that is no image, or a file that cannot be read."""


def as_texts(images: ImageLike | Sequence[ImageLike]) -> list[str]:
    """One image or several as they go into a JSON body."""
    given: Sequence[ImageLike] = images if isinstance(images, list | tuple) else [images]  # type: ignore[list-item]
    return [as_text(image) for image in given]


def as_text(image: ImageLike) -> str:
    """``image`` as it goes into a JSON body. Arrays and Pillow images travel as PNG: no pixel changes on the way."""
    if isinstance(image, str) and image.startswith(_PASSED_ON):
        return image
    if isinstance(image, str | Path):
        try:
            return _base64(Path(image).expanduser().read_bytes())
        except OSError as error:
            raise ImageError(f"{image}: {error.strerror or error}") from error
    if isinstance(image, bytes | bytearray | memoryview):
        return _base64(image)
    return _base64(_png(image))


def _base64(data: bytes | bytearray | memoryview) -> str:
    return base64.b64encode(data).decode("ascii")


def _png(image: Image | NDArray[np.uint8]) -> bytes:
    import numpy as np
    from PIL import Image as pillow

    if isinstance(image, np.ndarray):
        fits = image.dtype == np.uint8 and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4)))
        if not fits:
            raise ImageError(
                f"an array of shape {image.shape} and type {image.dtype} is no image: "
                "(H, W), (H, W, 3) or (H, W, 4) uint8 is"
            )
        image = pillow.fromarray(image)
    if not isinstance(image, pillow.Image):
        raise ImageError(f"{type(image).__name__} is no image: a path, bytes, a Pillow image or an array is")
    out = io.BytesIO()
    plain = image if image.mode in ("1", "L", "LA", "P", "RGB", "RGBA") else image.convert("RGB")
    plain.save(out, "PNG", compress_level=1, exif=image.getexif())
    return out.getvalue()
