"""What fewer bits cost on real pictures: the image tower of unicl-pocket in every precision, on its test styles.

``python -m speed.pocket_precision --data pictographs --write docs/models/unicl.md``, after ``sightline datasets
build pictographs --into pictographs`` and ``python -m models.unicl.pocket.texts``. Random weights would not do: how
much a network bears depends on what it learned.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from models.export.onnx import Answer, export
from models.export.precision import PRECISIONS, answers, choose
from models.focalnet.export import pictures
from models.unicl.pocket.concepts import TEMPLATES
from models.unicl.pocket.dataset import Pictographs
from models.unicl.pocket.evaluate import BATCH, shown, trained
from models.unicl.pocket.export import IMAGE, WEIGHTS, ImageTower
from models.unicl.pocket.network import SIZE, load, normalised
from models.unicl.report import replaced

STYLES = (("fluent-3d", "Fluent-3D"), ("openmoji", "OpenMoji"))
HEAD = (
    "| precision | engine | file, MB | "
    + " | ".join(f"{label} by name, {kind}" for _, label in STYLES for kind in ("top-1", "same as fp32"))
    + " | least cosine | mean cosine |"
)


def rows_of(answer: Answer, drawn: Tensor) -> Tensor:
    """Unit features ``(N, D)`` of pictures ``(N, 3, H, W)`` in 0..1."""
    parts = [answer({"image": normalised(batch).numpy()})[0] for batch in drawn.split(BATCH)]
    return torch.cat([torch.from_numpy(part) for part in parts])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every precision on the drawings of all seen concepts on white, and print or write the table."""
    parser = argparse.ArgumentParser(prog="python -m speed.pocket_precision", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--write", type=Path, help="page whose table `pocket-precision` is exchanged")
    given = parser.parse_args(arguments)
    data, model = Pictographs(given.data), load(WEIGHTS)
    seen = [concept for concept in data.core if not data.concepts[concept]["unseen"]]
    tower = ImageTower(model).eval()
    with torch.no_grad():
        texts = trained(model, data).texts
        names = F.normalize(torch.stack([texts(concept)[: len(TEMPLATES)].mean(dim=0) for concept in seen]), dim=1)
    drawn = {style: shown(data, style, seen, "white") for style, _ in STYLES}
    lines = [HEAD, "|" + " --- |" * (HEAD.count("|") - 1)]
    truth = torch.arange(len(seen))
    with tempfile.TemporaryDirectory() as scratch:
        exact = Path(scratch) / "model.onnx"
        export(tower, (pictures(3, SIZE, SIZE),), IMAGE, exact)
        examples = [(pictures(batch, SIZE, SIZE),) for batch in (1, 2, 5)]
        for precision in PRECISIONS:
            chosen = choose(tower, examples, IMAGE, exact, 0.0, precision)
            before, after = answers(chosen, exact, IMAGE)
            cells, cosines = [], []
            for style, _ in STYLES:
                one, other = rows_of(before, drawn[style]), rows_of(after, drawn[style])
                said, first = (other @ names.T).argmax(dim=1), (one @ names.T).argmax(dim=1)
                cells += [f"{(said == truth).float().mean() * 100:.2f}", f"{(said == first).float().mean():.1%}"]
                cosines.append((one * other).sum(dim=1))
            every = torch.cat(cosines)
            size = f"{chosen.file.stat().st_size / 1e6:.1f}"
            lines.append(
                f"| {precision} | {chosen.engine.name} | {size} | {' | '.join(cells)} "
                f"| {every.min():.5f} | {every.mean():.5f} |"
            )
            print(lines[-1], flush=True)
    if given.write:
        page = given.write.read_text("utf-8")
        given.write.write_text(replaced(page, "pocket-precision", lines), "utf-8")


if __name__ == "__main__":
    main()
