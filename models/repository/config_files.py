"""The ``config.pbtxt`` of every model, kept in step with its newest version."""

from __future__ import annotations

import os
from pathlib import Path

from models.catalog.card import Card
from models.repository.durable import store
from models.repository.locking import alone_with
from models.repository.reading import CONFIG, MODEL, card_or_none, installed, latest, model_folder
from models.repository.triton_config import config_pbtxt


def stage_config(folder: Path, card: Card | None, scratch: Path) -> Path | None:
    """Triton's view of ``folder``, ready to be put in place; ``None`` for a version without an ONNX file."""
    if card is None or not (folder / MODEL).is_file():
        return None
    staged = scratch / CONFIG
    staged.unlink(missing_ok=True)  # of a version that was written a moment ago
    store(config_pbtxt(card).encode(), staged)
    return staged


def place_config(staged: Path | None, model: Path) -> None:
    """Make what :func:`stage_config` gave the configuration of ``model``."""
    if staged is None:
        (model / CONFIG).unlink(missing_ok=True)
    else:
        staged.replace(model / CONFIG)


def stale_config(root: Path, name: str) -> str | None:
    """Return what ``config.pbtxt`` of a model should say, where it says something else; ``None`` where it is right.

    A model whose latest version has no ONNX file of its own should have none: an empty text then.
    """
    model = model_folder(root, name)
    folder = latest(root, name)
    card = card_or_none(folder) if folder is not None else None
    if folder is None or card is None:
        return None

    wanted = config_pbtxt(card) if (folder / MODEL).is_file() else ""
    try:
        found = (model / CONFIG).read_text()
    except OSError:
        found = ""

    return wanted if found != wanted else None


def refresh_configs(root: Path) -> list[str]:
    """Write again each ``config.pbtxt`` that is not what this release would write; the models concerned.

    Those of a repository that this process may not write to stay as they are.
    """
    refreshed = []
    for name in sorted({one.name for one in installed(root)}):
        if stale_config(root, name) is None or not os.access(root / name, os.W_OK):
            continue
        with alone_with(root, name) as scratch:
            folder = latest(root, name)
            if folder is not None and stale_config(root, name) is not None:
                place_config(stage_config(folder, card_or_none(folder), scratch), root / name)
                refreshed.append(name)

    return refreshed
