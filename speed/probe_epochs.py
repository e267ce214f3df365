"""What a head on a frozen encoder gains by training longer, from random weights and from the class names.

``python -m speed.probe_epochs --data FOLDER [--model efficientnet-lite2] [--datasets clothing]``: few shots, the
mean over three draws of the accuracy on the test images after 1, 3, 5, 10, 20, 50 and 100 epochs at one learning rate.
Nothing is chosen. It shows what the choice of epochs on a handful of validation images costs.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from services.datasets.splits import few_shot
from services.evaluation.named import parts, resolve
from services.evaluation.protocols import protocol
from services.evaluation.tasks.classification.subject import Subject
from services.finetuning.heads.head import Head, HeadConfig, Probe, probabilities, train_probe
from services.finetuning.heads.normalisation import Moments, fitted_rows
from services.ownership import Viewer
from services.runtime.onnx.backend import OnnxBackend
from services.settings import Settings
from services.storage.keys import ANONYMOUS
from speed.adaptation_sets import NAMES, SETS, LabelledSet, labelled_set

EPOCHS = (1, 3, 5, 10, 20, 50, 100)
RATE, DECAY, BATCH = 1e-2, 1e-4, 64
SEEDS = (0, 1, 2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m speed.probe_epochs", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="efficientnet-lite2")
    parser.add_argument("--datasets", nargs="+", default=list(SETS), choices=NAMES)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> None:
    settings = Settings()
    scratch = settings.cache_dir / "table"
    scratch.mkdir(parents=True, exist_ok=True)
    names = resolve(settings.models_dir, options.model, Viewer(ANONYMOUS, sees_all=True))
    backend = OnnxBackend(settings.model_copy(update={"preload": parts(settings.models_dir, names)}))
    await backend.start()
    try:
        print("| data set | head starts from | " + " | ".join(f"{count} epochs" for count in EPOCHS) + " |")
        print("|---|---|" + "---:|" * len(EPOCHS), flush=True)
        for name in options.datasets:
            await _set(Subject(backend, names, settings), labelled_set(options.data, name, scratch, settings))
    finally:
        await backend.close()


async def _set(subject: Subject, labelled: LabelledSet) -> None:
    material, shots = labelled.material, labelled.shots[0]
    classes = len(material.spec.classes)
    names = await subject.rows(material, protocol("linear-probe-language"), None)
    with material.open() as package:
        train, test = package.split("train"), package.split("test")
        labels = [stored.sample.labels for stored in train]
        draws = [few_shot(labels, classes, shots, seed) for seed in SEEDS]
        used = sorted(set().union(*draws))
        features = await subject.features(material, package, [train[at] for at in used], lambda done, total: None)
        pixels = await subject.features(material, package, test, lambda done, total: None)
    truth = np.array([stored.sample.labels[0] for stored in test])
    place = {at: row for row, at in enumerate(used)}
    for start in ("random weights", "class names"):
        found = []
        for seed, draw in zip(SEEDS, draws, strict=True):
            own = features[[place[at] for at in draw]]
            rows = torch.from_numpy(fitted_rows(names, own)) if start == "class names" else None
            torch.manual_seed(seed)
            head = Head(own.shape[1], classes, HeadConfig(), rows, Moments.of(own))
            targets = torch.tensor([labels[at][0] for at in draw])
            probe = Probe(RATE, DECAY, max(EPOCHS), BATCH, seed)
            reached = []
            for epoch in train_probe(head, torch.from_numpy(own), targets, probe):
                if epoch.number in EPOCHS:
                    chosen = probabilities(head, torch.from_numpy(pixels)).argmax(dim=1).numpy()
                    reached.append((chosen == truth).mean())
            found.append(reached)
        means = " | ".join(f"{100 * value:.1f}" for value in np.mean(found, axis=0))
        print(f"| {labelled.name}, {shots} shots | {start} | {means} |", flush=True)


if __name__ == "__main__":
    main()
