"""The two tables of kinds belong together, and the one that the gateway reads loads no work."""

from __future__ import annotations

import subprocess
import sys

import pytest

from services import job_kinds, job_runners
from services.jobs.kind import no_work


def test_every_kind_has_its_work_and_every_work_its_kind() -> None:
    assert list(job_runners.RUNNERS) == [kind.name for kind in job_kinds.OWN]
    assert all(callable(kind.load()) for kind in job_runners.runnable().values())


def test_what_the_gateway_reads_of_a_kind_cannot_run_it() -> None:
    for kind in job_kinds.registry().values():
        with pytest.raises(LookupError, match=r"services\.job_runners has the work"):
            kind.load()


def test_kinds_of_other_modules_bring_their_own_work() -> None:
    kinds = job_runners.runnable(("tests.support.job_kinds",))
    assert kinds["count"].load is not no_work
    assert kinds["batch"].load is job_runners.RUNNERS["batch"]


def test_two_kinds_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="'count'"):
        job_kinds.registry(("tests.support.job_kinds", "tests.support.job_kinds"))


def test_a_worker_for_batches_loads_no_training_library() -> None:
    code = (
        "import sys; from services.job_runners import runnable; runnable()['batch'].load(); "
        "print(*sorted({'torch', 'sklearn', 'optuna', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
