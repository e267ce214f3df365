"""Makes the heads that tests of bots talk to: `python -m tests.services.dialog.make_heads MODELS`, some minutes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from services.dialog.examples import distinct, examples
from services.dialog.ready import ready_bot
from services.dialog.simulator import simulate
from services.dialog.training.features import Encoder
from services.dialog.training.fit import Settings, fit
from services.dialog.understanding import Space


def main(models: Path, target: Path) -> None:
    """Fit small heads to simulated restaurant dialogs, and write them in half precision."""
    schema, table = ready_bot("restaurant")
    encoder = Encoder(models / "minilm-l6-tokens" / "1")
    turns = distinct(examples(simulate(schema, table, 700, 0)), 2_500)
    texts = list(dict.fromkeys(turn.text for turn in turns))
    features = dict(zip(texts, encoder.encode(texts), strict=True))
    heads = fit(Space.of(schema), turns, [features[turn.text] for turn in turns], Settings(width=128, epochs=12))
    target.parent.mkdir(exist_ok=True)
    save_file({name: np.asarray(value, np.float16) for name, value in heads.weights.items()}, target)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent / "data" / "restaurant-heads.safetensors")
