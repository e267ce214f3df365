"""Packages of Debian's archive as plain files: fetched by apt's own configuration, never installed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from models.catalog.lock import DebianSource
from models.errors import SourceError
from models.intake.sources.registry import DEADLINE, run
from models.progress import Progress

MAGIC = b"!<arch>\n"
HEADER = 60


def fetch_package(source: DebianSource, folder: Path, progress: Progress, deadline: float = DEADLINE) -> Path:
    """The package as apt finds it; not checked yet. Needs a Debian whose archive still has this version."""
    apt = shutil.which("apt-get")
    if apt is None:
        raise SourceError(
            f"{source.address} needs apt-get, which is not on PATH", "use a Debian machine, or leave this source out"
        )

    command = [
        "env", "--chdir", str(folder), apt, "download", "--quiet", f"{source.package}={source.version}",
    ]  # fmt: skip
    run(command, source.address, source.size, progress, deadline)
    found = list(folder.glob("*.deb"))
    if len(found) != 1:
        raise SourceError(f"{source.address} gave {len(found)} packages instead of one", "run `apt-get update` first")

    return found[0]


def contents(package: Path, into: Path) -> Path:
    """The tar of a package's files, as packed in it; a package is an ``ar`` archive of three members."""
    with package.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise SourceError(f"{package.name} is not a Debian package", "pull again")
        while len(header := file.read(HEADER)) == HEADER:
            name, size = header[:16].decode("ascii", "replace").strip().rstrip("/"), header[48:58]
            if not size.strip().isdigit():
                break
            if name.startswith("data.tar"):
                with into.open("xb") as out:
                    _copy(file.read, int(size), out.write)
                return into
            file.seek(int(size) + int(size) % 2, 1)

    raise SourceError(f"{package.name} is damaged: it has no data.tar", "pull again")


def _copy(read: Callable[[int], bytes], count: int, write: Callable[[bytes], object]) -> None:
    while count and (block := read(min(count, 1 << 20))):
        write(block)
        count -= len(block)
