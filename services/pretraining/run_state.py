"""The state of a training run between attempts at its job: one file in the job's checkpoint."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from services.jobs.context import JobContext


class RunState:
    """The files ``names`` of the folder ``out``, the first of which the training rewrites as it goes."""

    def __init__(self, ctx: JobContext[Any], out: Path, names: tuple[str, ...]) -> None:
        self._ctx = ctx
        self._out = out
        self._names = names
        self._kept = 0

    def restore(self) -> None:
        """Put back what an earlier attempt committed, if one did."""
        self._out.mkdir(parents=True, exist_ok=True)
        kept = self._ctx.load_checkpoint()
        if kept is None:
            return
        with zipfile.ZipFile(kept) as bundle:
            for name in self._names:
                bundle.extract(name, self._out)
        kept.unlink()
        self._kept = self._written()

    @property
    def changed(self) -> bool:
        """Whether the training wrote a state that is not committed yet."""
        return self._written() != self._kept

    def keep(self) -> None:
        """Commit the files, and the job's streams up to here."""
        written = self._written()
        bundle = self._ctx.scratch / "state.zip"
        with zipfile.ZipFile(bundle, "w", zipfile.ZIP_STORED) as out:
            for name in self._names:
                out.write(self._out / name, name)
        self._ctx.checkpoint(bundle)
        bundle.unlink()
        self._kept = written

    def _written(self) -> int:
        file = self._out / self._names[0]
        return file.stat().st_mtime_ns if file.exists() else 0
