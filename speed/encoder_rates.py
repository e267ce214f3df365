"""How fast an encoder should learn beside its head: validation accuracy of every method by learning rate and share.

``python -m speed.encoder_rates --data FOLDER [--model unicl-pocket-image] [--shots 5] [--rates 1e-2]``
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

from models.encoders import ImageEncoder
from services.datasets.splits import few_shot
from services.finetuning.data.examples import Examples, scorer, tensors
from services.finetuning.data.pictures import Pictures
from services.finetuning.encoders.placing import device_of, features_of, placed
from services.finetuning.heads.head import Probe, train_probe
from services.finetuning.heads.normalisation import Moments
from services.finetuning.heads.recipe import Recipe
from services.finetuning.strategies import names
from services.finetuning.strategies.base import strategy
from services.finetuning.training.fitting import new_model
from speed.encoder_folders import add_options, open_subject

TRAINED = [name for name in names() if strategy(name).trains_encoder]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one line for every method, rate and share: the mean over seeds, best and last epoch."""
    parser = argparse.ArgumentParser(prog="python -m speed.encoder_rates", description=__doc__)
    add_options(parser, "unicl-pocket-image", epochs=20, batch_size=64)
    parser.add_argument("--methods", nargs="*", default=TRAINED, choices=TRAINED)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1])
    parser.add_argument("--rates", nargs="*", type=float, default=[1e-2])
    parser.add_argument("--shares", nargs="*", type=float, default=[1.0, 1e-1, 1e-2, 1e-3])
    options = parser.parse_args(arguments)
    subject = open_subject(parser, options)
    print(f"{subject}, {options.shots} shots, {options.epochs} epochs", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        train = subject.read(options.data / "train", Path(scratch) / "train")
        val = subject.read(options.data / "val", Path(scratch) / "val")
        for method, rate, share in itertools.product(options.methods, options.rates, options.shares):
            began, curves = time.perf_counter(), []
            for seed in options.seeds:
                drawn = train.rows(few_shot(train.labels, len(subject.classes), options.shots, seed))
                recipe = Recipe(len(subject.classes), method=method, seed=seed, batch_size=options.batch_size)
                decay = strategy(method).weight_decay
                probe = Probe(rate, decay, options.epochs, options.batch_size, seed, encoder_rate=share)
                curves.append(_curve(subject.encoder, drawn, val, recipe, probe))
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


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
