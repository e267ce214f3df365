"""Trains the matrix of the region tower: ``python -m models.unicl.lite2.align``.

RegionCLIP's alignment (arXiv 2112.09106, section 3.3) with the image tower as its teacher. Boxes that a detector
proposes in photos, whatever they show, are cut out and seen by the frozen image tower; the student sees the same boxes
in the map of the whole photo. Losses: the divergence between how teacher and student tell the concepts apart (the
paper's distillation), and the distance of their places. No annotation of a photo is read.

Needs the pulled ``nanodet-coco``, ``efficientnet-lite2`` and ``unicl-lite2-text``. Most of the time is spent on crops.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from models.catalog.catalog import Catalog
from models.catalog.labels import label_set
from models.efficientnet_lite.export import read as read_classifier
from models.efficientnet_lite.feature_map import FeatureMap
from models.intake.sources.fetch import fetch
from models.nanodet.proposing import Proposer, fitted
from models.progress import silent
from models.unicl.lite2.export import WEIGHTS, read_weights
from models.unicl.lite2.pictures import Features
from models.unicl.lite2.regions import pooled
from models.unicl.lite2.space import unit
from models.zero_shot.texts import embed

Array = NDArray[np.float32]

SETS = ("raccoon/train", "fork_scissors/train", "aquarium/train", "chess_pieces/train", "bccd/train")
"""Folders of photos: training splits of detection sets, of which the pictures alone are used."""
PROPOSALS, CROPS = 100, 12
"""Boxes of a photo to draw from, and how many are drawn."""
LONGER = 640
MARGIN = 1.2
"""A crop is a square, this much wider than the longer side of its box."""
TEMPERATURE = 25.0
"""About that of unicl-lite2's softmax."""
STEPS, BATCH, RATE = 400, 256, 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, required=True, help="where the pulled models are")
    parser.add_argument("--cache", type=Path, required=True, help="where downloads are kept")
    parser.add_argument("--photos", type=Path, required=True, help=f"folder with {', '.join(SETS)}")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)

    entry = Catalog.read().entry("unicl-lite2")
    source = fetch("efficientnet-lite2", options.cache, silent)
    network = FeatureMap(read_classifier(entry.options, {"efficientnet-lite2": source})).eval()
    see = read_weights(WEIGHTS, str(entry.options["weights"])).see.detach()
    rows = read_classifier(entry.options, {"efficientnet-lite2": source})._fc.weight.detach()
    names = embed(options.repository / "unicl-lite2-text" / "1", label_set("coco-80"), silent)
    concepts = torch.cat([F.normalize((rows - rows.mean(0)) @ see, dim=1), torch.from_numpy(unit(names))])

    crops = Features(options.repository / "efficientnet-lite2" / "1")
    proposer = Proposer(options.repository / "nanodet-coco" / "1" / "model.onnx")
    random = np.random.RandomState(options.seed)
    seen, taught = [], []
    for number, photo in enumerate(photos(options.photos), 1):
        boxes = proposer(photo)[:PROPOSALS]
        boxes = boxes[random.permutation(len(boxes))[:CROPS]]
        if len(boxes) == 0:
            continue
        seen.append(regions(network, photo, boxes))
        taught.append(crops([crop(photo, box) for box in boxes]))
        if number % 50 == 0:
            print(f"{number} photos", flush=True)

    trained, bias = train(torch.cat(seen), torch.from_numpy(np.concatenate(taught)), see, concepts, options.seed)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({"see": trained.half().contiguous(), "bias": bias.half().contiguous()}, options.out)


def photos(folder: Path) -> Iterator[Image.Image]:
    for name in SETS:
        for file in sorted(path for path in (folder / name).rglob("*") if path.suffix.lower() in (".jpg", ".png")):
            with Image.open(file) as opened:
                yield opened.convert("RGB")


def regions(network: FeatureMap, photo: Image.Image, boxes: Array) -> Tensor:
    """What the classifier would pool of each box, ``(N, F)``, out of the map of the whole photo."""
    pixels, scale = fitted(photo, LONGER, Image.Resampling.BICUBIC, ground=127)
    image = torch.from_numpy((pixels - 127) / 128).permute(2, 0, 1)[None]
    with torch.no_grad():
        return pooled(network(image), torch.from_numpy(boxes * scale)[None])[0]


def crop(photo: Image.Image, box: Array) -> Image.Image:
    left, top, right, bottom = (float(edge) for edge in box)
    half = MARGIN / 2 * max(right - left, bottom - top)
    x, y = (left + right) / 2, (top + bottom) / 2
    edges = max(0, x - half), max(0, y - half), min(photo.width, x + half), min(photo.height, y + half)
    whole = tuple(round(edge) for edge in edges)
    return photo.crop((whole[0], whole[1], max(whole[2], whole[0] + 4), max(whole[3], whole[1] + 4)))


def train(seen: Tensor, taught: Tensor, see: Tensor, concepts: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """``seen`` and ``taught (R, F)`` are features of regions and of their crops: the matrix and the bias."""
    generator = torch.Generator().manual_seed(seed)
    teacher = F.normalize(taught @ see, dim=1)
    beliefs = (TEMPERATURE * teacher @ concepts.T).softmax(1)
    change = torch.zeros_like(see, requires_grad=True)
    bias = torch.zeros(see.shape[1], requires_grad=True)
    optimiser = torch.optim.Adam([change, bias], lr=RATE)

    for step in range(1, STEPS + 1):
        drawn = torch.randint(len(seen), (BATCH,), generator=generator)
        places = F.normalize(seen[drawn] @ (see + change) + bias, dim=1)
        told = (TEMPERATURE * places @ concepts.T).log_softmax(1)
        divergence = F.kl_div(told, beliefs[drawn], reduction="batchmean")
        distance = 1 - (places * teacher[drawn]).sum(1).mean()
        optimiser.zero_grad()
        (divergence + distance).backward()
        optimiser.step()
        if step % 50 == 0:
            print(f"step {step}: divergence {divergence.item():.3f}, distance {distance.item():.3f}", flush=True)

    return (see + change).detach(), bias.detach()


if __name__ == "__main__":
    main()
