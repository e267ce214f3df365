"""Every way to adapt an encoder, on one labelled folder: accuracy, trained parameters, adapter size, seconds.

``python -m speed.adaptation --data FOLDER [--model efficientnet-lite2] [--shots 5] [--side 0] [--epochs 10]``
where FOLDER has ``train/<class>/`` and ``test/<class>/``. One seed and the strategies' own learning rates: a check that
all of them learn, not a comparison of them.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from services.datasets.splits import few_shot
from services.finetuning.encoders.adapted import Adapted, save_adapter
from services.finetuning.heads.recipe import Recipe
from services.finetuning.strategies import names
from services.finetuning.strategies.base import strategy
from services.finetuning.training.fitting import evaluate, fit
from services.finetuning.training.hooks import Hooks
from speed.encoder_folders import add_options, open_subject


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one line a method."""
    parser = argparse.ArgumentParser(prog="python -m speed.adaptation", description=__doc__)
    add_options(parser, "efficientnet-lite2", epochs=10, batch_size=16)
    parser.add_argument("--methods", nargs="*", default=names())
    parser.add_argument("--learning-rates", nargs="*", type=float, help="instead of each strategy's own")
    parser.add_argument("--encoder-rates", nargs="*", type=float, help="instead of each strategy's own")
    options = parser.parse_args(arguments)
    subject = open_subject(parser, options)
    print(f"{subject}, {options.shots} shots, {options.epochs} epochs")
    with tempfile.TemporaryDirectory() as scratch:
        train = subject.read(options.data / "train", Path(scratch) / "train")
        train = train.rows(few_shot(train.labels, len(subject.classes), options.shots, 0))
        test = subject.read(options.data / "test", Path(scratch) / "test")
        for method in options.methods:
            rates = options.learning_rates or [strategy(method).learning_rate]
            shares = options.encoder_rates or [strategy(method).encoder_rate]
            for rate, share in itertools.product(rates, shares):
                recipe = Recipe(
                    len(subject.classes),
                    method=method,
                    learning_rate=rate,
                    weight_decay=strategy(method).weight_decay,
                    epochs=options.epochs,
                    batch_size=options.batch_size,
                    encoder_rate=share,
                )
                began = time.perf_counter()
                try:
                    fitted = fit(train, None, recipe, None, Hooks(), subject.encoder)
                except FloatingPointError as error:
                    print(f"{method:13} rate {rate:.0e}  {error}", flush=True)
                    continue
                seconds = time.perf_counter() - began
                size = 0
                if isinstance(fitted.model, Adapted):
                    save_adapter(fitted.model, Path(scratch) / "adapter", {})
                    size = (Path(scratch) / "adapter").stat().st_size
                score = evaluate(fitted, test, recipe)
                print(
                    f"{method:13} rate {rate:.0e} x {share:.0e}  test {score:.3f}  trained {fitted.trainable:>9,}  "
                    f"adapter {size / 1024:>8,.0f} KiB  {fitted.epochs:>2} epochs  {seconds:.0f} s",
                    flush=True,
                )


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
