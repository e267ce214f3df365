"""Data sets that installed packages bring along, written out as packages of images.

A maker is a function without parameters that gives ``(path, split, class index, pixels)``, pixels ``(H, W) uint8``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.datasets import package
from services.datasets.package import Checked
from services.datasets.samples import Sample, Split
from services.errors import Kind, Problem
from services.evaluation.suites.registry import SuiteSet

Picture = tuple[str, Split, int, NDArray[np.uint8]]
Maker = Callable[[], Iterator[Picture]]

DIGITS_TRAIN = 1000
PATCH = 64


def digits() -> Iterator[Picture]:
    """8 x 8 digits of scikit-learn, 0 to 16 spread over 0 to 255, white on black."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pictures = np.round(found.images * 255 / 16).astype(np.uint8)
    for number, (pixels, label) in enumerate(zip(pictures, found.target, strict=True)):
        yield f"{number:04d}.png", "train" if number < DIGITS_TRAIN else "test", int(label), pixels


def faces() -> Iterator[Picture]:
    """100 patches with a face and 100 without, alternately for training and testing."""
    from skimage.data import lfw_subset

    pictures = np.round(lfw_subset() * 255).astype(np.uint8)
    for number, pixels in enumerate(pictures):
        yield f"{number:03d}.png", "test" if number % 2 else "train", int(number < 100), pixels


def textures() -> Iterator[Picture]:
    """Patches of three surfaces, from the upper half for training and from the lower for testing."""
    import skimage.data

    for label, photo in enumerate((skimage.data.brick(), skimage.data.grass(), skimage.data.gravel())):
        rows, columns = (side // PATCH for side in photo.shape)
        for place in range(rows * columns):
            row, column = divmod(place, columns)
            top, left = row * PATCH, column * PATCH
            pixels = np.asarray(photo[top : top + PATCH, left : left + PATCH], np.uint8)
            yield f"{label}-{place:02d}.png", "train" if row < rows // 2 else "test", label, pixels


MAKERS: dict[str, Maker] = {"digits": digits, "faces": faces, "textures": textures}


def make(spec: SuiteSet, maker: str, into: Path) -> None:
    """Write the package of a built-in set to ``into``. Raises ``suite-package-missing``."""
    try:
        pictures = list(MAKERS[maker]())
    except ImportError as error:
        raise Problem(
            Kind.INVALID,
            "suite-package-missing",
            "A package that brings the data set is not installed",
            f"{spec.name!r} comes with {(error.name or str(error)).partition('.')[0]!r}, which is not there.",
            remedy="Install scikit-learn and scikit-image beside the platform, or leave the data set out.",
        ) from error
    write(spec, pictures, into)


def write(spec: SuiteSet, pictures: Iterable[Picture], into: Path) -> None:
    """The package of ``pictures``, in ``into``."""
    with tempfile.TemporaryDirectory(prefix="builtin-", dir=into.parent) as folder:
        checked = []
        for path, split, label, pixels in pictures:
            file = Path(folder) / path
            Image.fromarray(pixels).save(file, "PNG")
            height, width = pixels.shape[:2]
            checked.append(Checked(Sample(path, split, (label,)), file, width, height))
        staged = Path(folder) / "package.zip"
        package.write(staged, spec.name, "classification", list(spec.classes), "builtin", checked)
        staged.replace(into)
