"""``python -m models.convert NAME FILE``: a downloaded checkpoint of a publication to models that are served.

The file is read once, matched in full, exported, verified at several batch sizes and written with a card.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from models.catalog.card import Card
from models.catalog.labels import read_labels
from models.catalog.releases import release, releases
from models.errors import ModelError
from models.export.accuracy import Labelled
from models.export.precision import PRECISIONS, Precision
from models.families import converter, families
from models.intake.checkpoint import CheckpointError, MismatchedCheckpoint, read_state
from models.intake.conversion import Job
from models.progress import Progress, silent
from models.repository.ownership import check_name
from models.repository.writer import writing


def convert(
    name: str,
    file: Path,
    repository: Path,
    progress: Progress = silent,
    labels: Path | None = None,
    precision: Precision | None = None,
    pictures: Labelled | None = None,
    beside: Sequence[Path] = (),
) -> list[Card]:
    """Make models of ``file``, the checkpoint of release ``name``; their cards, the one to ask for last.

    ``labels`` (21,842 lines) keeps a 22K head whole; without it, it is cut to ImageNet-1K. ``precision`` absent is the
    fastest that the network bears here; what it costs on ``pictures`` stands on the card. ``beside`` are further files
    that the model is made of: those that the release names are found in the folder of ``file``. Raises
    :class:`ModelError`; then the repository has none of them, or those that were there before.
    """
    entry = release(name)
    absent = next((path for path in (file, *beside) if not path.is_file()), None)
    if absent is not None:
        raise ModelError(f"{absent} is not there", entry.remedy)
    found = [file.with_name(other) for other in entry.beside if file.with_name(other).is_file()]

    line = converter(entry.family)
    names = (name, *line.parts(name))
    with writing(repository, *names) as held:
        for one in names:
            check_name(repository, one, key=None)
        classes = read_labels(labels) if labels else ()
        job = Job(name, entry, file, held.work, progress, classes, precision, pictures, (*found, *beside))
        try:
            versions = list(line.convert(job))
        except MismatchedCheckpoint as error:
            error.remedy = what_it_is(file) or error.remedy
            raise
        return [Card.read(held.write(version.card, version.files, replace=True)) for version in versions]


def what_it_is(file: Path) -> str:
    """Of which releases a readable file has the names and shapes, whatever their family; nothing where of none."""
    state = read_state(file)
    fits: dict[str, str] = {}
    for line in families():
        with contextlib.suppress(CheckpointError):  # a mixture of namings is of no family
            fits |= line.converter.fits(state) if line.converter else {}
    if not fits:
        return ""

    likely = [name for name, entry in releases().items() if entry.variant in fits.values()]
    what = f"It is {', or '.join(fits)}"
    return f"{what}: convert it as {' or '.join(likely)}." if likely else f"{what}, which no release is."


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert, or list what can be converted; 1 when the file is refused."""
    parser = argparse.ArgumentParser(prog="python -m models.convert", description=__doc__)
    parser.add_argument("name", nargs="?", help="a published checkpoint; without one, all are listed")
    parser.add_argument("file", nargs="?", type=Path, help="its file, downloaded")
    parser.add_argument("--repository", type=Path, default=Path(".sightline/models"))
    parser.add_argument("--labels", type=Path, help="names of all classes of a 22K head, one a line")
    parser.add_argument("--precision", choices=PRECISIONS, help="absent: bf16 where the network bears it, else fp32")
    options = parser.parse_args(arguments)
    try:
        if options.name is None or options.file is None:
            chosen = {options.name: release(options.name)} if options.name else releases()
            for name, entry in chosen.items():
                print(f"{name}: {entry.title}\n  {entry.remedy}")
            return 0
        for card in convert(options.name, options.file, options.repository, _print, options.labels, options.precision):
            print(f"{card.name}: {card.title}")
    except ModelError as error:
        print(f"{error}\n{error.remedy}", file=sys.stderr)
        return 1

    return 0


def _print(stage: str, done: int, total: int) -> None:
    print(f"{stage} {done}/{total}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
