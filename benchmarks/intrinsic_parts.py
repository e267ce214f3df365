"""Which parts of an encoder a data set needs: what ``"parts": "auto"`` measures, on one labelled folder.

``python -m benchmarks.intrinsic_parts --data FOLDER [--model efficientnet-lite2] [--shots 5] [--side 0] [--epochs 10]``
where FOLDER has ``train/<class>/`` and ``val/<class>/``. One line a part, the seconds, and what would be chosen.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.encoder_rates import labelled
from models.repository import latest, read_card
from services.adaptation.encoders import open_encoder
from services.adaptation.intrinsic import measure, select
from services.adaptation.recipe import Recipe
from services.datasets.splits import few_shot
from services.settings import Settings


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every part there is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.intrinsic_parts", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="efficientnet-lite2")
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--side", type=int, default=0, help="pixels; the model's own when 0")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    settings = Settings()
    folder = latest(settings.models_dir, options.model)
    if folder is None:
        parser.error(f"no model {options.model!r} in {settings.models_dir}; pull it first")
    card = read_card(folder)
    assert card.image is not None
    encoder = open_encoder(folder, card, settings.models_dir, settings.cache_dir)
    spec = card.image
    if options.side:
        spec = spec.model_copy(update={"size": options.side, "resize": options.side * 8 // 7})
    classes = sorted(path.name for path in (options.data / "train").iterdir() if path.is_dir())
    with tempfile.TemporaryDirectory() as scratch:
        train = labelled(options.data / "train", classes, spec, Path(scratch) / "train", settings)
        val = labelled(options.data / "val", classes, spec, Path(scratch) / "val", settings)
        train = train.rows(few_shot(train.labels, len(classes), options.shots, options.seed))
        print(f"{card.name} at {spec.size} px: {len(train)} images to train on, {len(val)} to validate", flush=True)
        recipe = Recipe(len(classes), search_epochs=options.epochs, batch_size=options.batch_size, seed=options.seed)
        began, processor = time.perf_counter(), time.process_time()
        measured = measure(encoder, train, val, recipe)
    for one in measured:
        tried = ", ".join(f"{size:,}: {score:.3f}" for size, score in one.scores)
        print(
            f"{one.part:8} intrinsic dimension {one.dimension:>9,} of {one.parameters:>9,}  probe {one.probe:.3f}  "
            f"whole {one.score:.3f}  ({tried})"
        )
    print(
        f"parts: {select(measured) or 'as the method says'}; {time.perf_counter() - began:.0f} s, "
        f"{time.process_time() - processor:.0f} s of one core"
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
