"""AP of fine-tuned detectors: ``python -m speed.detection_finetuning --data DATA --repository MODELS --set raccoon``.

Trains as the ``finetune`` job does (its own functions), on shots of ELEVATER's sampling and on all training images, and
scores the test split. One thread; seconds are of the processor. A line of JSON a run.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.catalog.catalog import Catalog
from services.datasets.package import Package
from services.datasets.splits import few_shot
from services.finetuning.detection.adapting import adapt
from services.finetuning.detection.photos import Photos
from services.finetuning.detection.scoring import score
from services.media.intake import Limits
from services.settings import Settings
from speed.detection_sets import package

CARD = Catalog.read().entry("nanodet-coco").card


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repository", type=Path, required=True, help="where nanodet-coco and minilm-l6 are")
    parser.add_argument("--set", action="append", required=True)
    parser.add_argument("--method", default="linear_probe", choices=("linear_probe", "full", "lora"))
    parser.add_argument("--shots", type=int, nargs="*", default=[], help="0 is all")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.set:
            with package(options.data / name, Path(scratch)) as bundle:
                for shots in options.shots:
                    runs = range(options.seeds if shots or options.method != "linear_probe" else 1)
                    results = [measure(bundle, options.repository, options.method, shots, seed) for seed in runs]
                    print(
                        json.dumps({"set": name, "method": options.method, "shots": shots} | joined(results)),
                        flush=True,
                    )


def measure(bundle: Package, repository: Path, method: str, shots: int, seed: int) -> dict[str, float]:
    samples = bundle.split("train")
    if shots:
        labels = [stored.sample.labels for stored in samples]
        samples = [samples[index] for index in few_shot(labels, len(bundle.classes), shots, seed)]
    assert CARD.image is not None
    limits = Limits.of(Settings())
    photos, tests = (Photos(bundle, part, CARD.image, limits) for part in (samples, bundle.split("test")))

    begun = time.process_time()
    folder = repository / "nanodet-coco" / "1"
    made = adapt(folder, CARD, bundle.classes, photos, method=method, models_dir=repository, seed=seed)
    seconds = time.process_time() - begun
    statistics = score(made.detector, tests, bundle.classes, lambda done: None).statistics
    return {"AP50": statistics["AP50"], "AP": statistics["AP"], "seconds": seconds}


def joined(results: list[dict[str, float]]) -> dict[str, Any]:
    """Means, and standard errors over seeds."""
    found: dict[str, Any] = {"seeds": len(results)}
    for name in results[0]:
        values = Tensor([one[name] for one in results])
        found[name] = round(values.mean().item(), 4)
        if len(results) > 1 and name != "seconds":
            found[f"{name} error"] = round((values.std() / math.sqrt(len(values))).item(), 4)
    return found


if __name__ == "__main__":
    main()
