"""What a pocket UniCL scores on styles and concepts that it never saw, with pixel nearest neighbours beside it.

Every measure is taken on white and on cuts of three photos that no training uses. Names are said in the templates of
the served model; a row that says so adds the keywords.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.unicl.pocket.augment import Augment, flattened
from models.unicl.pocket.build import pixels
from models.unicl.pocket.concepts import TEMPLATES
from models.unicl.pocket.dataset import Pictographs
from models.unicl.pocket.network import SIZE, PocketUniCL, normalised
from models.unicl.pocket.texts import Texts

BACKGROUNDS = ("white", "photo")
BATCH = 128


@dataclass(frozen=True, slots=True)
class Row:
    """One measure: percent of queries whose answer is first, or among the first five."""

    measure: str
    ways: int
    background: str
    top1: float
    top5: float

    def dump(self) -> dict[str, str | int | float]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Towers:
    """What is measured: pictures ``(B, 3, H, W)`` in 0..1 to unit rows, and one concept's texts to unit rows."""

    images: Callable[[Tensor], Tensor]
    texts: Callable[[int], Tensor]


def trained(model: PocketUniCL, data: Pictographs) -> Towers:
    """The network as training left it, on exact MiniLM embeddings."""
    return Towers(model.embed_images, lambda concept: model.text(data.texts_of(concept)))


def served(repository: Path, data: Pictographs, threads: int = 1) -> Towers:
    """The files that are served: both ONNX models of ``repository``, int8 text and all."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    folder = repository / "unicl-pocket-image" / "1"
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])

    def images(pictures: Tensor) -> Tensor:
        rows = session.run(["image_embedding"], {"image": normalised(pictures).numpy()})[0]
        return torch.from_numpy(np.asarray(rows))

    core = data.core
    encoder = Texts(repository / "unicl-pocket-text" / "1", "text_embedding", threads)
    rows = torch.from_numpy(encoder([text for concept in core for text in data.said[concept]]))
    counts = [len(data.said[concept]) for concept in core]
    own = dict(zip(core, rows.split(counts), strict=True))
    return Towers(images, own.__getitem__)


def ranks(queries: Tensor, gallery: Tensor) -> Tensor:
    """For query i, how many of the gallery are nearer than its own, row i."""
    scores = queries @ gallery.T
    return (scores > scores.diagonal()[:, None]).sum(dim=1)


@torch.no_grad()
def evaluate(towers: Towers, data: Pictographs) -> list[Row]:
    """Every row of the table."""
    return list(_rows(towers, data))


def _rows(towers: Towers, data: Pictographs) -> Iterator[Row]:
    core = data.core
    unseen = torch.tensor([index for index, concept in enumerate(core) if data.concepts[concept]["unseen"]])
    seen = torch.tensor([index for index, concept in enumerate(core) if not data.concepts[concept]["unseen"]])
    said = [towers.texts(concept) for concept in core]
    names = F.normalize(torch.stack([rows[: len(TEMPLATES)].mean(dim=0) for rows in said]), dim=1)
    more = F.normalize(torch.stack([rows.mean(dim=0) for rows in said]), dim=1)
    for background in BACKGROUNDS:
        drawn = {style: shown(data, style, core, background) for style in ("fluent-3d", "openmoji", "noto")}
        images = {style: _embed(towers, pictures) for style, pictures in drawn.items()}
        for style, label in (("fluent-3d", "Fluent-3D"), ("openmoji", "OpenMoji"), ("noto", "Noto (trained style)")):
            yield _row(f"{label} by name, seen concepts", background, images[style][seen], names[seen])

        for style, label in (("fluent-3d", "Fluent-3D"), ("openmoji", "OpenMoji"), ("noto", "Noto")):
            yield _row(f"{label} by name, unseen concepts", background, images[style][unseen], names[unseen])

        yield _row(
            "Fluent-3D by name and keywords, unseen concepts", background, images["fluent-3d"][unseen], more[unseen]
        )
        yield _row("text to Fluent-3D image", background, names, images["fluent-3d"])
        noto = _embed(towers, shown(data, "noto", core, "white"))
        grey = coarse(shown(data, "noto", core, "white"))
        for style, label in (("fluent-3d", "Fluent-3D"), ("openmoji", "OpenMoji")):
            yield _row(f"{label} image to Noto image", background, images[style], noto)
            yield _row(f"{label} image to Noto image, pixels alone", background, coarse(drawn[style]), grey)


def validate(towers: Towers, data: Pictographs) -> Row:
    """The seen concepts in the validation style, by name: what recipes are chosen by."""
    concepts = [i for i in data.core if not data.concepts[i]["unseen"] and (i, "fxemoji") in data.row]
    with torch.no_grad():
        names = torch.stack([towers.texts(concept)[: len(TEMPLATES)].mean(dim=0) for concept in concepts])
        images = _embed(towers, shown(data, "fxemoji", concepts, "white"))
    return _row("FxEmoji by name, seen concepts", "white", images, F.normalize(names, dim=1))


def shown(data: Pictographs, style: str, concepts: Sequence[int], background: str) -> Tensor:
    """Drawings ``(N, 3, SIZE, SIZE)`` as they are, on white or each on its own cut of a photo."""
    drawings = data.images[[data.row[concept, style] for concept in concepts]]
    if background == "white":
        return flattened(drawings, SIZE, None)
    crops = Augment(data.test_photos, torch.Generator().manual_seed(0)).crops(len(concepts), SIZE)
    return flattened(drawings, SIZE, crops)


def coarse(pictures: Tensor) -> Tensor:
    """16 x 16 pixels as unit rows, the yardstick without learning."""
    rows = (F.interpolate(pictures, size=(16, 16), mode="area") * 255).permute(0, 2, 3, 1)
    opaque = torch.cat([rows, torch.full_like(rows[..., :1], 255)], dim=3)
    return torch.from_numpy(pixels(opaque.numpy()))


def _embed(towers: Towers, pictures: Tensor) -> Tensor:
    return torch.cat([towers.images(batch) for batch in pictures.split(BATCH)])


def _row(measure: str, background: str, queries: Tensor, gallery: Tensor) -> Row:
    found = ranks(queries, gallery)
    first, five = ((found < limit).float().mean().item() * 100 for limit in (1, 5))
    return Row(measure, len(gallery), background, round(first, 2), round(five, 2))
