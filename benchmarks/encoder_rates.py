"""How fast an encoder should learn beside its head: validation accuracy of every method by learning rate and share.

``python -m benchmarks.encoder_rates --data FOLDER [--model unicl-pocket-image] [--shots 5] [--rates 1e-2]``
where FOLDER has ``train/<class>/`` and ``val/<class>/``. A few images a class of ``train`` are learnt from for a fixed
number of epochs, all of ``val`` are scored after each: test images choose nothing. The head starts from random weights.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from models.catalog.card import ImagePreprocess
from models.encoders import ImageEncoder
from models.repository import latest, read_card
from services.adaptation.encoders import open_encoder
from services.adaptation.examples import Examples, scorer, tensors
from services.adaptation.fitting import new_model
from services.adaptation.head import Probe, train_probe
from services.adaptation.normalisation import Moments
from services.adaptation.pictures import Pictures
from services.adaptation.recipe import Recipe, device_of, features_of, placed
from services.adaptation.strategies import names, strategy
from services.datasets.splits import few_shot
from services.media.intake import Limits
from services.settings import Settings

TRAINED = [name for name in names() if strategy(name).trains_encoder]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one line for every method, rate and share: the mean over seeds, best and last epoch."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encoder_rates", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="unicl-pocket-image")
    parser.add_argument("--methods", nargs="*", default=TRAINED, choices=TRAINED)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1])
    parser.add_argument("--side", type=int, default=0, help="pixels; the model's own when 0")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rates", nargs="*", type=float, default=[1e-2])
    parser.add_argument("--shares", nargs="*", type=float, default=[1.0, 1e-1, 1e-2, 1e-3])
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
    print(
        f"{card.name} at {spec.size} px, {len(classes)} classes, {options.shots} shots, {options.epochs} epochs",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as scratch:
        train = labelled(options.data / "train", classes, spec, Path(scratch) / "train", settings)
        val = labelled(options.data / "val", classes, spec, Path(scratch) / "val", settings)
        for method, rate, share in itertools.product(options.methods, options.rates, options.shares):
            began, curves = time.perf_counter(), []
            for seed in options.seeds:
                drawn = train.rows(few_shot(train.labels, len(classes), options.shots, seed))
                recipe = Recipe(len(classes), method=method, seed=seed, batch_size=options.batch_size)
                decay = strategy(method).weight_decay
                probe = Probe(rate, decay, options.epochs, options.batch_size, seed, encoder_rate=share)
                curves.append(_curve(encoder, drawn, val, recipe, probe))
            curve = np.mean(curves, axis=0)
            print(
                f"{method:13} rate {rate:.0e} x {share:.0e}  best {curve.max():.3f} (epoch {curve.argmax() + 1})  "
                f"last {curve[-1]:.3f}  {time.perf_counter() - began:.0f} s",
                flush=True,
            )


def _curve(encoder: ImageEncoder, train: Examples, val: Examples, recipe: Recipe, probe: Probe) -> list[float]:
    """Validation accuracy after each epoch; zeros from where the loss was not finite."""
    assert isinstance(train.inputs, Pictures)
    moments = Moments.of(features_of(encoder, train.inputs, probe.batch_size))
    model = new_model(train, recipe, None, encoder, moments)
    inputs, labels = tensors(train, recipe)
    where, found = device_of(model), list[float]()
    epochs = train_probe(
        model, placed(inputs, where), labels.to(where), probe, scorer(val, recipe), placed(val.inputs, where)
    )
    try:
        found.extend(float(epoch.metric) for epoch in epochs)
    except FloatingPointError:
        found.extend([0.0] * (probe.epochs - len(found)))
    return found


def labelled(folder: Path, classes: list[str], spec: ImagePreprocess, path: Path, settings: Settings) -> Examples:
    """The pictures of ``folder/<class>/``."""
    files = [(file, label) for label, name in enumerate(classes) for file in sorted((folder / name).iterdir())]
    pictures = Pictures.collect((file.read_bytes() for file, _ in files), spec, path, Limits.of(settings))
    return Examples(pictures, [[label] for _, label in files])


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
