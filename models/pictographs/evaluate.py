"""Measure a pocket UniCL on styles and concepts it never saw, with the pixel nearest neighbour beside it.

``python -m models.pictographs.evaluate --data DIR --texts FILE --photos FILE --weights FILE`` prints a markdown table.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_tensors
from torch import Tensor
from torch.nn import functional as F

from models.pictographs.augment import Augment, on_white
from models.pictographs.build import STYLES
from models.pictographs.concepts import TEMPLATES
from models.pictographs.train import MEAN, STD, Data, PocketUniCL

SIZE = 64


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: percent of queries whose answer is first, or among the first five."""

    measure: str
    ways: int
    top1: float
    top5: float


def load(weights: Path) -> PocketUniCL:
    """The network of a file that training wrote, for measuring."""
    tensors = load_tensors(weights)
    model = PocketUniCL(tensors["text.mean"], tensors["text.whiten"])
    model.load_state_dict(tensors)
    return model.eval()


@torch.no_grad()
def embed_images(model: PocketUniCL, pictures: Tensor) -> Tensor:
    """``(N, 3, 64, 64)`` in 0..1 to unit rows ``(N, 256)``."""
    normalised = (pictures - MEAN[:, None, None]) / STD[:, None, None]
    return torch.cat([F.normalize(model.image(batch), dim=-1) for batch in normalised.split(128)])


@torch.no_grad()
def embed_names(model: PocketUniCL, data: Data, concepts: list[int]) -> Tensor:
    """One unit row a concept: the mean over the name in its templates and the name with keywords."""
    rows = []
    for index in concepts:
        vectors = model.text(data.concept_texts[index])
        named, more = vectors[: len(TEMPLATES)].mean(dim=0), vectors.mean(dim=0)
        rows.append(F.normalize(named + more, dim=0))
    return torch.stack(rows)


def ranks(queries: Tensor, gallery: Tensor) -> Tensor:
    """For query i, how many of the gallery are nearer than its own, row i."""
    scores = queries @ gallery.T
    own = scores.diagonal()[:, None]
    return (scores > own).sum(dim=1)


def row(measure: str, queries: Tensor, gallery: Tensor) -> Row:
    found = ranks(queries, gallery)
    first, five = ((found < limit).float().mean().item() * 100 for limit in (1, 5))
    return Row(measure, len(gallery), first, five)


def evaluate(model: PocketUniCL, data: Data, photos: Tensor) -> list[Row]:
    """Every measure on white, the main ones on busy backgrounds, pixels beside image to image."""
    core = [index for index, concept in enumerate(data.concepts) if concept["core"]]
    seen = [index for index in core if not data.concepts[index]["unseen"]]
    unseen = [index for index in core if data.concepts[index]["unseen"]]
    places = {"seen": [core.index(i) for i in seen], "unseen": [core.index(i) for i in unseen]}
    drawn = {style: data.images[[data.place[index, number] for index in core]] for number, style in enumerate(STYLES)}
    images = {style: embed_images(model, on_white(drawn[style], SIZE)) for style in STYLES}
    names = embed_names(model, data, core)
    rows = [
        row(f"{style} by name, seen concepts", images[style][places["seen"]], names[places["seen"]])
        for style in ("fluent-3d", "openmoji", "noto")
    ]
    rows += [
        row(f"{style} by name, unseen concepts", images[style][places["unseen"]], names[places["unseen"]])
        for style in ("fluent-3d", "openmoji", "noto")
    ]
    rows.append(row("text to fluent-3d image", names, images["fluent-3d"]))
    rows.append(row("text to fluent-3d image, unseen", names[places["unseen"]], images["fluent-3d"][places["unseen"]]))
    for style in ("fluent-3d", "openmoji"):
        rows.append(row(f"{style} image to noto image", images[style], images["noto"]))
        rows.append(row(f"{style} image to noto image, pixels 16 x 16", _pixels(drawn[style]), _pixels(drawn["noto"])))
    busy = Augment(photos, torch.Generator().manual_seed(0))
    for style in ("fluent-3d", "openmoji"):
        crowded = torch.cat([_busy(busy, part) for part in drawn[style].split(128)])
        vectors = embed_images(model, crowded)
        rows.append(row(f"{style} by name, seen, photo backgrounds", vectors[places["seen"]], names[places["seen"]]))
    return rows


def _busy(augment: Augment, drawings: Tensor) -> Tensor:
    """Drawings unmoved on photo crops."""
    rgba = drawings.permute(0, 3, 1, 2).float() / 255
    return rgba[:, :3] * rgba[:, 3:] + (1 - rgba[:, 3:]) * augment.crops(len(drawings), SIZE)


def _pixels(drawings: Tensor) -> Tensor:
    small = on_white(drawings, 16).flatten(1)
    return F.normalize(small - small.mean(dim=1, keepdim=True), dim=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("data", "texts", "photos", "weights"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = Data(options.data, load_file(options.texts))
    photos = torch.from_numpy(load_file(options.photos)["photos"])
    print("| measure | ways | top-1 % | top-5 % |\n|---|---|---|---|")
    for line in evaluate(load(options.weights), data, photos):
        print(f"| {line.measure} | {line.ways:,} | {line.top1:.1f} | {line.top5:.1f} |")


if __name__ == "__main__":
    main()
