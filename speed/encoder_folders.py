"""What the benchmarks of adapting encoders share: an installed encoder, and folders of labelled pictures for it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from models.catalog.geometry import ImagePreprocess
from models.encoders import ImageEncoder
from models.repository.reading import latest, read_card
from services.finetuning.data.examples import Examples
from services.finetuning.data.pictures import Pictures
from services.finetuning.encoders.opening import open_encoder
from services.media.intake import Limits
from services.settings import Settings


@dataclass(frozen=True, slots=True)
class Subject:
    """An encoder with how it takes pictures, and the classes of the folder."""

    name: str
    encoder: ImageEncoder
    spec: ImagePreprocess
    classes: list[str]
    settings: Settings

    def __str__(self) -> str:
        return f"{self.name} at {self.spec.size} px, {len(self.classes)} classes"

    def read(self, folder: Path, scratch: Path) -> Examples:
        """The pictures of ``folder/<class>/``, kept in the file ``scratch``."""
        files = [(file, label) for label, name in enumerate(self.classes) for file in sorted((folder / name).iterdir())]
        limits = Limits.of(self.settings)
        pictures = Pictures.collect((file.read_bytes() for file, _ in files), self.spec, scratch, limits)
        return Examples(pictures, [[label] for _, label in files])


def add_options(parser: argparse.ArgumentParser, model: str, *, shots: int = 5, epochs: int, batch_size: int) -> None:
    """The options that all of them have; ``model`` and the numbers are what they are when not given."""
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default=model)
    parser.add_argument("--shots", type=int, default=shots)
    parser.add_argument("--side", type=int, default=0, help="pixels; the model's own when 0")
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--batch-size", type=int, default=batch_size)


def open_subject(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Subject:
    """The encoder that ``options`` name; ends the program with a message where it is not installed."""
    settings = Settings()
    folder = latest(settings.models_dir, options.model)
    if folder is None:
        parser.error(f"no model {options.model!r} in {settings.models_dir}; pull it first")
    card = read_card(folder)
    assert card.square is not None
    spec = card.square
    if options.side:
        spec = spec.model_copy(update={"size": options.side, "resize": options.side * 8 // 7})
    classes = sorted(path.name for path in (options.data / "train").iterdir() if path.is_dir())
    encoder = open_encoder(folder, card, settings.models_dir, settings.cache_dir)
    return Subject(card.name, encoder, spec, classes, settings)
