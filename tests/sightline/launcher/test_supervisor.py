"""The supervisor with real processes: they crash, hang, are killed and killed again."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sightline.launcher.process import Process
from sightline.launcher.supervisor import Supervisor, _Child
from tests.support.serving import alive, eventually

ROOT = Path(__file__).parents[3]

CHILD = """
import os, signal, sys, time
from pathlib import Path
log, name, *traits = sys.argv[1:]
def say(word):
    with open(log, "a") as out:
        out.write(f"{name} {word} {os.getpid()} {time.monotonic()}\\n")
def stop(number, frame):
    say(signal.Signals(number).name)
    if "stubborn" not in traits:
        if "slow" in traits:
            time.sleep(0.3)
        say("done")
        os._exit(0)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
    signal.signal(number, stop)
signal.signal(signal.SIGUSR1, lambda number, frame: say("SIGUSR1"))
if "parent" in traits and os.fork() == 0:
    say("grandchild")
    time.sleep(60)
say("start")
if "crash" in traits:
    sys.exit(3)
Path(log + "." + name).touch()
while True:
    time.sleep(60)
"""


class StartFailed(Exception):
    pass


class Run:
    """One supervisor process and the diary of its children."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "diary"
        self.log.touch()
        self.child = folder / "child.py"
        self.child.write_text(CHILD)
        self.process: subprocess.Popen[str] | None = None
        self.seen: set[int] = set()

    def spec(self, name: str, *traits: str, **options: Any) -> dict[str, Any]:
        argv = [sys.executable, str(self.child), str(self.log), name, *traits]
        return {"name": name, "argv": argv, "ready_file": f"{self.log}.{name}", **options}

    def start(self, *specs: dict[str, Any]) -> dict[str, int]:
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/support/supervised.py"), json.dumps(specs)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        if not said.startswith("ready "):
            raise StartFailed(said + self.process.stdout.read())
        return json.loads(said.removeprefix("ready "))

    def diary(self, word: str) -> list[tuple[str, int, float]]:
        lines = [line.split() for line in self.log.read_text().splitlines()]
        self.seen |= {int(pid) for _, _, pid, _ in lines}
        return [(name, int(pid), float(at)) for name, said, pid, at in lines if said == word]

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(60)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    yield run
    if run.process is not None:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()
        if run.process.stdout:
            run.process.stdout.close()
    run.diary("start")
    for pid in run.seen:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_killed_process_is_started_again(run: Run) -> None:
    pids = run.start(run.spec("a"), run.spec("b"))
    os.kill(pids["a"], signal.SIGKILL)
    eventually(lambda: len(run.diary("start")) == 3)
    name, pid, _ = run.diary("start")[-1]
    assert (name, alive(pid), alive(pids["b"])) == ("a", True, True)


def test_pauses_between_restarts_grow(run: Run) -> None:
    pids = run.start(run.spec("a"))
    for count in range(1, 5):
        os.kill(run.diary("start")[-1][1] if count > 1 else pids["a"], signal.SIGKILL)
        eventually(lambda count=count: len(run.diary("start")) == count + 1)
    starts = [at for _, _, at in run.diary("start")]
    pauses = [later - earlier for earlier, later in itertools.pairwise(starts[1:])]
    assert pauses[0] > 0.19 and pauses[1] > 0.39 and pauses[2] > 0.79


def test_stages_start_in_order_and_stop_in_the_opposite_order(run: Run) -> None:
    run.start(
        run.spec("gateway", "slow", stage=1), run.spec("broker", "slow", stage=0), run.spec("worker", "slow", stage=2)
    )
    assert [name for name, _, _ in run.diary("start")] == ["broker", "gateway", "worker"]
    assert run.process is not None
    run.process.terminate()
    assert run.wait() == 0
    asked, done = run.diary("SIGTERM"), run.diary("done")
    assert [name for name, _, _ in asked] == [name for name, _, _ in done] == ["worker", "gateway", "broker"]
    assert asked[1][2] >= done[0][2] and asked[2][2] >= done[1][2]


def test_who_is_stopped_last_is_told_first_that_the_end_begins(run: Run) -> None:
    run.start(run.spec("gateway", stage=1, lame_duck_signal="SIGUSR1"), run.spec("worker", "slow", stage=2))
    assert run.process is not None
    run.process.terminate()
    assert run.wait() == 0
    ((name, _, told),) = run.diary("SIGUSR1")
    (worker, _, done), _ = run.diary("done")
    assert (name, worker) == ("gateway", "worker")
    assert told < done


def test_each_process_is_stopped_by_its_own_signal(run: Run) -> None:
    run.start(run.spec("a", stop_signal="SIGQUIT"), run.spec("b"))
    assert run.process is not None
    run.process.terminate()
    assert run.wait() == 0
    assert [name for name, _, _ in run.diary("SIGQUIT")] == ["a"]
    assert [name for name, _, _ in run.diary("SIGTERM")] == ["b"]


def test_a_process_that_does_not_stop_is_killed_after_its_grace(run: Run) -> None:
    pids = run.start(run.spec("a", "stubborn", grace=0.4))
    assert run.process is not None
    begin = time.monotonic()
    run.process.terminate()
    assert run.wait() == 0
    assert 0.4 < time.monotonic() - begin < 5
    assert not alive(pids["a"])


def test_a_repeated_sigterm_changes_nothing(run: Run) -> None:
    run.start(run.spec("a", "slow", grace=60))
    assert run.process is not None
    run.process.terminate()
    eventually(lambda: bool(run.diary("SIGTERM")))
    run.process.terminate()
    assert run.wait() == 0
    assert len(run.diary("done")) == 1


def test_a_second_interrupt_does_not_wait_for_the_grace(run: Run) -> None:
    pids = run.start(run.spec("a", "stubborn", grace=60))
    assert run.process is not None
    run.process.send_signal(signal.SIGINT)
    eventually(lambda: bool(run.diary("SIGTERM")))
    run.process.send_signal(signal.SIGINT)
    assert run.wait() == 0
    assert not alive(pids["a"])


def test_an_interrupt_of_the_terminal_reaches_the_children_as_an_ordered_stop(run: Run) -> None:
    run.start(run.spec("a"))
    assert run.process is not None
    os.killpg(run.process.pid, signal.SIGINT)
    assert run.wait() == 0
    assert not run.diary("SIGINT") and len(run.diary("SIGTERM")) == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's promise is Linux'")
def test_killing_the_supervisor_leaves_no_child_behind(run: Run) -> None:
    pids = run.start(run.spec("a"), run.spec("b", "stubborn"))
    assert run.process is not None
    run.process.kill()
    run.wait()
    eventually(lambda: not any(alive(pid) for pid in pids.values()), 5)


def test_what_a_dead_process_left_running_is_killed(run: Run) -> None:
    pids = run.start(run.spec("a", "parent"))
    eventually(lambda: bool(run.diary("grandchild")))
    grandchild = run.diary("grandchild")[0][1]
    os.kill(pids["a"], signal.SIGKILL)
    eventually(lambda: not alive(grandchild), 5)


def test_a_process_that_dies_at_the_start_stops_everything(run: Run) -> None:
    specs = [run.spec("a"), run.spec("b", "crash", stage=1)]
    with pytest.raises(StartFailed, match=r"process-failed b: exit code 3 before it was ready"):
        run.start(*specs)
    assert run.wait() == 1
    assert [name for name, _, _ in run.diary("done")] == ["a"]


def test_a_process_that_is_never_ready_is_a_failed_start(run: Run) -> None:
    spec = run.spec("a", start_timeout=0.5)
    spec["ready_file"] += ".never"
    with pytest.raises(StartFailed, match=r"process-failed a: it was not ready within 0.5 s"):
        run.start(spec)
    assert run.wait() == 1
    assert [name for name, _, _ in run.diary("done")] == ["a"]


def test_a_program_that_is_not_there_is_a_failed_start(run: Run) -> None:
    with pytest.raises(StartFailed, match=r"process-failed a: /no/such/program: No such file or directory"):
        run.start(run.spec("a") | {"argv": ["/no/such/program"]})
    assert run.wait() == 1


def test_a_process_that_dies_for_ever_is_started_every_half_minute() -> None:
    process = Process("a", ["true"], {})
    supervisor, child = Supervisor([process]), _Child(process)
    for _ in range(3000):
        supervisor._plan_restart(child, "exit code 1")
    assert child.due is not None and 25 < child.due - time.monotonic() <= 30
