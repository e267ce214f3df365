"""The file of a published checkpoint: from the cache, from its address where it is pinned, or from a person's hands."""

from __future__ import annotations

from pathlib import Path

from models.catalog.releases import Release
from models.errors import HashMismatch, SourceError
from models.intake.sources.fetch import fetch_file
from models.progress import Progress, silent
from models.repository.hashing import sha256

PINS = "models/catalog/releases"


def published_folder(cache: Path, name: str) -> Path:
    """Return where the file of release ``name`` lies, whoever put it there."""
    return cache / "published" / name


def published_file(name: str, release: Release, cache: Path, progress: Progress = silent) -> Path:
    """The checkpoint of release ``name`` in the cache, with a hash that a host states where one does.

    It is fetched where an address, hash and size are pinned. Raises :class:`SourceError`, whose remedy says how to
    bring the file by hand, and :class:`HashMismatch` for other bytes than the pinned ones. The caller holds a lock.
    """
    folder = published_folder(cache, name)
    there = next((folder / file for file in release.files if (folder / file).is_file()), None)
    if there is not None:
        _check(there, release)
        return there

    pin = release.pin
    if pin is None:
        folder.mkdir(parents=True, exist_ok=True)  # what the remedy says can be done as it stands
        raise SourceError(
            f"the file of {name} is to be fetched by hand: no host states hash and size at a fixed address",
            by_hand(name, release, cache),
        )

    target = folder / pin.file
    try:
        fetch_file(pin, target, progress)
    except HashMismatch as error:
        raise HashMismatch(pin.address, error.expected, error.actual, PINS) from error
    except SourceError as error:
        raise SourceError(str(error), by_hand(name, release, cache)) from error
    return target


def by_hand(name: str, release: Release, cache: Path) -> str:
    """Return what a person does: where to get the file, what it is called, how large it is, and where it goes."""
    pin = release.pin
    file = release.files[0] if pin is None else pin.file
    get = release.remedy if pin is None else f"Download {pin.address}"
    facts = [f"{release.size:,} bytes"] if release.size is not None else []
    facts.append(f"licence {release.licence.spdx}")
    if release.beside:
        facts.append(f"to lie beside {' and '.join(release.beside)}")
    return (
        f"{get.rstrip('.')}. The file is {file} ({', '.join(facts)}). Save it as "
        f"{published_folder(cache, name) / file} and pull again, or leave it where it is: "
        f"sightline models pull {name} --file PATH"
    )


def _check(file: Path, release: Release) -> None:
    stated = release.hashes(file.name)
    if stated and (found := sha256(file)) not in stated:
        raise SourceError(
            f"{file} has sha256 {found}, but its hosts state {' or '.join(sorted(stated))}",
            "delete it and pull again; it was changed, or damaged on the way",
        )
