"""Every way to adapt an encoder, on one labelled folder: accuracy, trained parameters, adapter size, seconds.

``python -m benchmarks.adaptation --data FOLDER [--model efficientnet-lite2] [--shots 5] [--side 0] [--epochs 10]``
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

from models.catalog.card import ImagePreprocess
from models.repository import latest, read_card
from services.adaptation.adapted import Adapted, save_adapter
from services.adaptation.encoders import open_encoder
from services.adaptation.examples import Examples
from services.adaptation.fitting import evaluate, fit
from services.adaptation.pictures import Pictures
from services.adaptation.recipe import Hooks, Recipe
from services.adaptation.strategies import names, strategy
from services.datasets.splits import few_shot
from services.media.intake import Limits
from services.settings import Settings


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one line a method."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adaptation", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="efficientnet-lite2")
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--side", type=int, default=0, help="pixels; the model's own when 0")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--methods", nargs="*", default=names())
    parser.add_argument("--learning-rates", nargs="*", type=float, help="instead of each strategy's own")
    parser.add_argument("--encoder-rates", nargs="*", type=float, help="instead of each strategy's own")
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
    print(f"{card.name} at {spec.size} px, {len(classes)} classes, {options.shots} shots, {options.epochs} epochs")
    with tempfile.TemporaryDirectory() as scratch:
        train = _read(options.data / "train", classes, spec, Path(scratch) / "train", settings, options.shots)
        test = _read(options.data / "test", classes, spec, Path(scratch) / "test", settings, None)
        for method in options.methods:
            rates = options.learning_rates or [strategy(method).learning_rate]
            shares = options.encoder_rates or [strategy(method).encoder_rate]
            for rate, share in itertools.product(rates, shares):
                recipe = Recipe(
                    len(classes),
                    method=method,
                    learning_rate=rate,
                    weight_decay=strategy(method).weight_decay,
                    epochs=options.epochs,
                    batch_size=options.batch_size,
                    encoder_rate=share,
                )
                began = time.perf_counter()
                try:
                    fitted = fit(train, None, recipe, None, Hooks(), encoder)
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


def _read(
    folder: Path, classes: list[str], spec: ImagePreprocess, path: Path, settings: Settings, shots: int | None
) -> Examples:
    files = [(file, label) for label, name in enumerate(classes) for file in sorted((folder / name).iterdir())]
    if shots is not None:
        files = [files[index] for index in few_shot([[label] for _, label in files], len(classes), shots, 0)]
    pictures = Pictures.collect((file.read_bytes() for file, _ in files), spec, path, Limits.of(settings))
    return Examples(pictures, [[label] for _, label in files])


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
