"""Rows of everything that scenes say, by the served text tower: names in many wordings, colours, counts, relations.

``python -m models.glip.pocket.rows --data DIR --repository DIR`` reads the folder that ``sightline datasets build
pictographs`` wrote and ``unicl-pocket-text`` of a model repository, and writes ``rows.safetensors`` beside the
drawings: ``concepts (T, 256)`` with ``start (C + 1,)``, ``plurals (C, 256)``, ``names (C, 256)`` (the mean over the
card's templates, as labels are served) and ``words (W, 256)``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from models.unicl.pocket.concepts import TEMPLATES
from models.unicl.pocket.texts import Texts

ROWS = "rows.safetensors"
COLOURS = {
    "red": (214, 32, 38), "orange": (242, 130, 26), "yellow": (248, 212, 44), "green": (56, 158, 62),
    "blue": (40, 96, 214), "purple": (132, 58, 178), "pink": (244, 128, 178), "brown": (122, 76, 44),
    "black": (34, 34, 38), "white": (244, 244, 244), "grey": (136, 138, 142),
}  # fmt: skip
COUNTS = ("two", "three", "four", "five")
RELATIONS = {
    "left of": ("left of", "to the left of", "on the left of", "left from"),
    "right of": ("right of", "to the right of", "on the right of", "right from"),
    "above": ("above", "over", "on top of", "higher than"),
    "below": ("below", "under", "beneath", "lower than"),
}
"""A relation and the ways to say it."""
JOINS = ("and", ",", "with", "next to", "beside", "near")
WORDS = (*COLOURS, *COUNTS, *(said for ways in RELATIONS.values() for said in ways), *JOINS)


def plural(name: str) -> str:
    """English plural of a name's last word, by the regular rules."""
    if name.endswith(("s", "x", "sh", "ch")):
        return name + "es"
    if name.endswith("y") and name[-2:-1] not in "aeiou":
        return name[:-1] + "ies"
    return name + "s"


def embed(folder: Path, encoder: Texts) -> None:
    """Write ``rows.safetensors`` into the folder of a built set."""
    meta: dict[str, Any] = json.loads((folder / "pictographs.json").read_text("utf-8"))
    said: list[list[str]] = meta["texts"]
    names = [concept["name"] for concept in meta["concepts"]]
    flat = [text for texts in said for text in texts]
    rows = encoder([*flat, *(plural(name) for name in names), *WORDS])

    start = np.cumsum([0, *(len(texts) for texts in said)])
    served = np.stack([rows[first : first + len(TEMPLATES)].mean(axis=0) for first in start[:-1]])
    save_file(
        {
            "concepts": rows[: len(flat)],
            "start": start.astype(np.int32),
            "names": _unit(served),
            "plurals": rows[len(flat) : len(flat) + len(names)],
            "words": rows[len(flat) + len(names) :],
        },
        folder / ROWS,
    )


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of `sightline datasets build pictographs`")
    parser.add_argument("--repository", type=Path, required=True, help="model repository with unicl-pocket-text")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    embed(options.data, Texts(options.repository / "unicl-pocket-text" / "1", "text_embedding", options.threads))


if __name__ == "__main__":
    main()
