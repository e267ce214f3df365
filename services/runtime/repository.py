"""Reads the model repository: ``<root>/<model>/<version>/{card.json, model.onnx, ...}``, Triton's layout. Never writes.

Names come from requests, so nothing here follows them anywhere: a name must match ``MODEL_NAME``, a version must be a
positive number, and neither folder nor file may be a symbolic link (the root itself may be one).
"""

from __future__ import annotations

import hashlib
import re
import stat
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from models.catalog.card import MODEL_NAME, Card
from services.runtime.problems import model_damaged, model_invalid, model_not_found, version_not_found

VERSION = re.compile(r"[1-9][0-9]{0,8}")
MODEL_FILE = "model.onnx"
CARD_FILE = "card.json"
READ_BYTES = 1 << 20


class Repository:
    """A view of the folder as it is now; only cards are remembered, until their file changes."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._cards: dict[Path, tuple[tuple[int, int, int], Card]] = {}

    def names(self) -> list[str]:
        """Models with at least one version, sorted. A repository that does not exist yet is an empty one."""
        return sorted(name for name in _listed(self.root) if self.versions(name))

    def versions(self, model: str) -> list[str]:
        """Version numbers in ascending order, empty for a model that does not exist."""
        if not MODEL_NAME.fullmatch(model):
            return []
        folder = self.root / model
        if not _is_folder(folder):
            return []
        found = (name for name in _listed(folder) if VERSION.fullmatch(name) and _is_folder(folder / name))
        return sorted(found, key=int)

    def folder(self, model: str, version: str) -> Path:
        """The version folder; raises ``model-not-found`` or ``version-not-found``."""
        if not MODEL_NAME.fullmatch(model) or not _is_folder(self.root / model):
            raise model_not_found(model)
        if not VERSION.fullmatch(version) or not _is_folder(self.root / model / version):
            raise version_not_found(model, version)
        return self.root / model / version

    def card(self, model: str, version: str) -> Card:
        """The card of a version; raises ``model-invalid`` naming the file, the field and the remedy."""
        path = self.folder(model, version) / CARD_FILE
        shown = f"{model}/{version}/{CARD_FILE}"
        try:
            info = path.lstat()
            if not stat.S_ISREG(info.st_mode):
                raise model_invalid(f"{shown} is not a plain file.", "Replace it by a file.")
            stamp = (info.st_mtime_ns, info.st_size, info.st_ino)
            known = self._cards.get(path)
            if known is not None and known[0] == stamp:
                return known[1]
            card = Card.model_validate_json(path.read_bytes())
        except OSError as error:
            raise model_invalid(
                f"{shown} cannot be read: {error.strerror}.", "Import the model with `sightline models import`."
            ) from error
        except ValidationError as error:
            raise model_invalid(
                f"{shown}: {_first(error)}", "Correct that field, or import the model again."
            ) from error

        if (card.name, card.version) != (model, version):
            raise model_invalid(
                f"{shown}: name and version say {card.name}/{card.version}, the folder says {model}/{version}.",
                "Rename the folder, or correct the card.",
            )

        self._cards[path] = (stamp, card)
        return card

    def verify(self, model: str, version: str) -> None:
        """Check that the folder holds exactly the files of its card, byte for byte; raises ``model-damaged``."""
        folder = self.folder(model, version)
        card = self.card(model, version)
        shown = f"{model}/{version}"
        present = {name for name in _files(folder) if name != CARD_FILE}
        for name, expected in sorted(card.files.items()):
            parts = PurePosixPath(name).parts
            if name.startswith("/") or ".." in parts:
                raise model_damaged(f"{shown}/{CARD_FILE}: files: {name!r} is outside the version folder.")
            if name not in present:
                raise model_damaged(f"{shown}/{name} is missing, or is not a plain file.")
            try:
                found = _sha256(folder / name)
            except OSError as error:
                raise model_damaged(f"{shown}/{name} cannot be read: {error.strerror}.") from error
            if found != expected.lower():
                raise model_damaged(f"{shown}/{name} has sha256 {found}, its card says {expected}.")

        unknown = sorted(present - set(card.files))
        if unknown:
            raise model_damaged(f"{shown}/{unknown[0]} is not among the files of its card.")


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _listed(folder: Path) -> list[str]:
    """The names in a folder, which may be removed at any moment."""
    try:
        return [path.name for path in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _files(folder: Path) -> list[str]:
    """Plain files below ``folder`` as POSIX paths; links and hidden files are not seen, so a card cannot name them."""
    found = []
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts) or path.is_symlink() or not path.is_file():
            continue
        if not any((folder / parent).is_symlink() for parent in relative.parents):
            found.append(relative.as_posix())
    return found


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _first(error: ValidationError) -> str:
    """The first complaint as ``inputs.0.datatype: what is wrong``; a card with one fault usually has just one."""
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}." if where else f"{first['msg']}."
