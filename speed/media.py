"""CPU time of each step from a base64 JPEG to a model tensor, as a markdown table: ``python speed/media.py``."""

from __future__ import annotations

import base64
import io
import platform
import time
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
from PIL import Image

from models.catalog.geometry import ImagePreprocess
from services.media.formats import read_container
from services.media.image import read_picture
from services.media.intake import Limits, decode_base64
from services.media.preprocess import Preprocessor
from services.settings import Settings


def photo(width: int, height: int) -> Image.Image:
    """Smooth shapes and grain: about as many bytes a pixel as a photograph."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize((width, height), 3)
    grain = rng.normal(0, 9, (height, width, 1))
    return Image.fromarray((np.asarray(coarse) + grain).clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def milliseconds(step: Callable[[], object], seconds: float = 1.0) -> float:
    """CPU milliseconds of one call: the best of the runs that fit into ``seconds``, which other load disturbs least."""
    best, until = float("inf"), time.perf_counter() + seconds
    repeat = 1
    while time.perf_counter() < until:
        begin = time.process_time_ns()
        for _ in range(repeat):
            step()
        spent = time.process_time_ns() - begin
        best = min(best, spent / repeat)
        repeat = max(1, min(1000, int(20e6 / max(best, 1))))
    return best / 1e6


def table_lookup(image: Image.Image, spec: ImagePreprocess, out: np.ndarray) -> None:
    """The usual fast way, to compare with: a table of 256 floats for each channel."""
    pixels = np.asarray(image)
    for c in range(3):
        values = np.arange(256, dtype=np.float32) / np.float32(255)
        np.take((values - np.float32(spec.mean[c])) / np.float32(spec.std[c]), pixels[:, :, c], out=out[c], mode="clip")


def idiomatic(image: Image.Image, spec: ImagePreprocess) -> np.ndarray:
    """What tutorials show, to compare with."""
    values = np.asarray(image, np.float32) / 255.0
    values = (values - np.asarray(spec.mean, np.float32)) / np.asarray(spec.std, np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def main() -> None:
    limits = Limits.of(Settings())
    small, large = jpeg(photo(224, 224)), jpeg(photo(4000, 3000))
    text = base64.b64encode(small).decode()
    picture, big = read_picture(small, limits), read_picture(large, limits)
    squash = Preprocessor(ImagePreprocess(size=224, mode="squash"))
    crop = Preprocessor(ImagePreprocess(size=224))
    out = np.empty((3, 224, 224), np.float32)

    def whole() -> None:
        squash.into(read_picture(decode_base64(text, limits), limits), out)

    steps: list[tuple[str, Callable[[], object]]] = [
        (f"base64 to bytes, {len(text):,} characters", lambda: decode_base64(text, limits)),
        ("container and limits of a 224 x 224 JPEG", lambda: read_container(small, limits)),
        (f"JPEG to picture, 224 x 224, {len(small):,} bytes", lambda: read_picture(small, limits)),
        ("normalise 224 x 224 into a batch (no resize)", lambda: squash.into(picture, out)),
        ("  the same by table look-up", lambda: table_lookup(picture.image, squash.spec, out)),
        ("  the same as tutorials write it", lambda: idiomatic(picture.image, squash.spec)),
        ("resize to 256, crop 224, normalise", lambda: crop.into(picture, out)),
        ("**base64 224 x 224 JPEG to tensor**", whole),
        (f"JPEG to picture, 4000 x 3000, {len(large):,} bytes", lambda: read_picture(large, limits)),
        ("resize 4000 x 3000 to 256, crop 224, normalise", lambda: crop.into(big, out)),
    ]
    versions = f"Pillow {version('pillow')}, NumPy {np.__version__}"
    print(f"{platform.machine()}, Python {platform.python_version()}, {versions}\n")
    print("| step | CPU ms |\n|---|---|")
    for name, step in steps:
        print(f"| {name} | {milliseconds(step):.3f} |")


if __name__ == "__main__":
    main()
