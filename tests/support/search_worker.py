"""Does one job and stands still inside a trial of its search, for tests that kill it there.

``python -m tests.support.search_worker DATA JOB TRIAL FOLDER``: every trial that begins is a line of ``FOLDER/begun``;
after the first epoch of the TRIAL-th the process writes ``FOLDER/inside`` and waits for its end.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from services.finetuning.heads.head import Epoch
from services.finetuning.search.grid import Trial
from services.finetuning.training import fitting
from services.jobs.services import JobServices
from services.settings import Settings
from tests.support.jobs import run_job


def record(folder: Path, stop_in: int | None = None) -> None:
    """Patch the fit of this process so that it tells of its trials, and stands still inside one."""
    real_trial, real_epochs, begun = fitting._Fit._best_epoch, fitting.train_probe, 0

    def trial(self: fitting._Fit, one: Trial) -> float:
        nonlocal begun
        begun += 1
        with (folder / "begun").open("a") as out:
            out.write(f"{one.learning_rate!r} {one.weight_decay!r}\n")
        return real_trial(self, one)

    def epochs(*arguments: object, **named: object) -> Iterator[Epoch]:
        for epoch in real_epochs(*arguments, **named):  # type: ignore[arg-type]
            if begun == stop_in:
                (folder / "inside").touch()
                time.sleep(600)
            yield epoch

    fitting._Fit._best_epoch = trial  # type: ignore[method-assign]
    fitting.train_probe = epochs  # type: ignore[assignment]


if __name__ == "__main__":
    data, job, stop_in, folder = sys.argv[1:]
    record(Path(folder), int(stop_in))
    run_job(JobServices.open(Settings(data_dir=Path(data), job_heartbeat=0.2)), job)
