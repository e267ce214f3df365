"""Runs of the small GLIP beside each other, as training left them: with deep fusion and without.

``python -m models.glip.pocket.compare RUN ... --data DIR --into FILE`` measures what the head alone says (names by its
tokens, one of two by a relation or by a colour) and what naming by the image tower adds, on scenes of Fluent-3D.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from models.glip.pocket.batches import boxes_of, pictures, rows
from models.glip.pocket.captions import TOKENS, Sample
from models.glip.pocket.drawings import Drawings
from models.glip.pocket.export import load
from models.glip.pocket.measures import (
    SUITES,
    Array,
    Suite,
    average_precision,
    colour_scenes,
    named_scenes,
    overlaps,
    relation_scenes,
    suppressed,
    truth,
)
from models.glip.pocket.network import PocketGlip
from models.glip.pocket.train import WEIGHTS
from models.unicl.pocket.export import WEIGHTS as TEACHER
from models.unicl.pocket.network import SIZE, PocketUniCL
from models.unicl.pocket.network import load as load_teacher

BATCH = 25
SCALE = 27.23


@dataclass(frozen=True, slots=True)
class Seen:
    """One scene as the head answers it: boxes ``(N, 4)``, objectness with centerness ``(N,)``, token probabilities
    ``(N, L)``, and cosines ``(N, L)`` of what is cut out with the rows of the text."""

    sample: Sample
    boxes: Array
    sure: Array
    tokens: Array
    cosines: Array


@torch.no_grad()
def look(model: PocketGlip, teacher: PocketUniCL, samples: Sequence[Sample]) -> Iterator[Seen]:
    """The proposals of each scene without duplicates, at most thirty."""
    for start in range(0, len(samples), BATCH):
        part = samples[start : start + BATCH]
        mask = torch.zeros(len(part), TOKENS, dtype=torch.int64)
        for place, sample in enumerate(part):
            mask[place, : len(sample.rows)] = 1
        found = model(pictures([sample.scene.picture for sample in part]), rows(part), mask)
        boxes = boxes_of(found.deltas)
        sure = (found.objectness.sigmoid() * found.centerness.sigmoid()).sqrt().double().numpy()
        tokens = found.tokens.sigmoid().double().numpy()
        for place, sample in enumerate(part):
            kept = suppressed(boxes[place], sure[place], most=30, least=0.02)
            own, length = boxes[place][kept], len(sample.rows)
            seen = teacher.embed_images(cuts(sample.scene.picture, own)) if len(own) else torch.zeros(0, 256)
            cosines = (seen @ torch.from_numpy(np.stack(sample.rows)).T).double().numpy()
            yield Seen(sample, own, sure[place][kept], tokens[place][kept, :length], cosines)


def cuts(scene: NDArray[np.uint8], boxes: Array) -> Tensor:
    """What lies in boxes, a tenth wider, ``(N, 3, 48, 48)`` in 0..1."""
    picture, parts = Image.fromarray(scene), []
    for left, top, right, bottom in boxes:
        wide, high = (right - left) * 0.05, (bottom - top) * 0.05
        extent = (left - wide, top - high, right + wide, bottom + high)
        part = picture.transform((SIZE, SIZE), Image.Transform.EXTENT, extent, Image.Resampling.BILINEAR)
        parts.append(np.asarray(part))
    return torch.from_numpy(np.stack(parts)).permute(0, 3, 1, 2).float() / 255


def measure(model: PocketGlip, teacher: PocketUniCL, drawings: Drawings, suite: Suite, count: int) -> dict[str, float]:
    """Percent by what is measured."""
    named = list(look(model, teacher, list(named_scenes(drawings, suite, count))))
    told = {"boxes without names, AP50": average_precision([(s.boxes, s.sure, truth(s.sample)[0]) for s in named])}
    told["named by the head's tokens, AP50"] = _named(named, lambda seen: seen.sure[:, None] * seen.tokens)
    told["named by what is cut out, AP50"] = _named(named, lambda seen: seen.sure[:, None] * _softmax(seen.cosines))
    for title, scenes, other in (
        ("one of two by a relation, the head alone", relation_scenes, 2),
        ("one of two by a colour, the head alone", colour_scenes, 1),
    ):
        chosen = [
            _chosen(seen, 1 if other == 2 else 0, other)
            for seen in look(model, teacher, list(scenes(drawings, suite, count)))
        ]
        decided = [right for right in chosen if right is not None]
        told[title] = 100 * float(np.mean(decided)) if decided else float("nan")
    return {name: round(value, 1) for name, value in told.items()}


def _named(seen: Sequence[Seen], score: object) -> float:
    assert callable(score)
    found = []
    for one in seen:
        scores, (boxes, names) = score(one), truth(one.sample)
        found += [(one.boxes, scores[:, name], boxes[names == name]) for name in range(scores.shape[1])]
    return average_precision(found)


def _softmax(cosines: Array) -> Array:
    shares = np.exp(SCALE * (cosines - cosines.max(axis=1, keepdims=True))) if len(cosines) else cosines
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _chosen(seen: Seen, meant: int, other: int) -> bool | None:
    """Whether, of the two boxes of a kind, the tokens of the first phrase are surer of the one that is meant."""
    things = seen.sample.scene.things
    if len(things) <= max(meant, other) or not len(seen.boxes):
        return None
    true = np.array([things[meant].box, things[other].box], np.float64)
    nearest = overlaps(true, seen.boxes)
    if (nearest.max(axis=1) < 0.5).any():
        return None
    phrase = seen.sample.phrases[0]
    sure = seen.tokens[nearest.argmax(axis=1), phrase.first : phrase.last].mean(axis=1)
    return bool(sure[0] > sure[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of training runs")
    parser.add_argument("--data", type=Path, required=True, help="folder of the built set")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--into", type=Path, default=Path("docs/models/glip-pocket/comparison.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    drawings, teacher = Drawings(options.data), load_teacher(TEACHER)
    told = []
    for run in options.runs:
        recipe = json.loads((run / "recipe.json").read_text("utf-8"))
        rows_ = measure(load(run / WEIGHTS), teacher, drawings, SUITES[1], options.scenes)
        told.append({"fused": recipe["fused"], "steps": recipe["steps"], "scenes": options.scenes, "measures": rows_})
    options.into.write_text(json.dumps(told, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
