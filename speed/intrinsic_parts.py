"""Which parts of an encoder a data set needs: what ``"parts": "auto"`` measures, on one labelled folder.

``python -m speed.intrinsic_parts --data FOLDER [--model efficientnet-lite2] [--shots 5] [--side 0] [--epochs 10]``
where FOLDER has ``train/<class>/`` and ``val/<class>/``. One line a part, the seconds, and what would be chosen.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from services.datasets.splits import few_shot
from services.finetuning.heads.recipe import Recipe
from services.finetuning.search.intrinsic import measure, select
from speed.encoder_folders import add_options, open_subject


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every part there is."""
    parser = argparse.ArgumentParser(prog="python -m speed.intrinsic_parts", description=__doc__)
    add_options(parser, "efficientnet-lite2", epochs=10, batch_size=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    subject = open_subject(parser, options)
    with tempfile.TemporaryDirectory() as scratch:
        train = subject.read(options.data / "train", Path(scratch) / "train")
        val = subject.read(options.data / "val", Path(scratch) / "val")
        train = train.rows(few_shot(train.labels, len(subject.classes), options.shots, options.seed))
        print(f"{subject}: {len(train)} images to train on, {len(val)} to validate", flush=True)
        classes = len(subject.classes)
        recipe = Recipe(classes, search_epochs=options.epochs, batch_size=options.batch_size, seed=options.seed)
        began, processor = time.perf_counter(), time.process_time()
        measured = measure(subject.encoder, train, val, recipe)
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
