"""Rates are kept exactly, by one process and by several."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.middleware.limits import RateLimiter, Verdict


@pytest.fixture
def limiter(tmp_path: Path) -> Iterator[RateLimiter]:
    limiter = RateLimiter(tmp_path / "limits", rate=10, burst=5)
    yield limiter
    limiter.close()


def check(limiter: RateLimiter, key: str, now: float, rate: float | None = None) -> Verdict:
    verdict = limiter.check(key, rate, now)
    assert verdict is not None
    return verdict


def test_burst_passes_at_once_and_no_more(limiter: RateLimiter) -> None:
    verdicts = [check(limiter, "k", 100.0) for _ in range(7)]
    assert [verdict.allowed for verdict in verdicts] == [True] * 5 + [False] * 2
    assert [verdict.remaining for verdict in verdicts] == [4, 3, 2, 1, 0, 0, 0]


def test_refusal_says_when_the_next_may_come(limiter: RateLimiter) -> None:
    for _ in range(5):
        check(limiter, "k", 100.0)
    refused = check(limiter, "k", 100.0)
    assert refused.retry_after == pytest.approx(0.1)
    assert not check(limiter, "k", 100.0 + refused.retry_after - 0.001).allowed
    assert check(limiter, "k", 100.0 + refused.retry_after + 0.001).allowed


def test_a_steady_rate_passes_for_ever(limiter: RateLimiter) -> None:
    assert all(check(limiter, "k", 100.0 + step / 10).allowed for step in range(1000))


def test_keys_do_not_share(limiter: RateLimiter) -> None:
    for _ in range(5):
        check(limiter, "a", 100.0)
    assert not check(limiter, "a", 100.0).allowed
    assert check(limiter, "b", 100.0).allowed


def test_a_key_may_have_a_rate_of_its_own_or_none_at_all(limiter: RateLimiter) -> None:
    assert sum(check(limiter, "k", 100.0, rate=2).allowed for _ in range(9)) == 5
    assert limiter.check("free", 0.0) is None


def test_a_file_from_before_a_reboot_locks_nobody_out(tmp_path: Path) -> None:
    old = RateLimiter(tmp_path / "limits", rate=1, burst=2)
    for _ in range(3):
        check(old, "k", 1e6)
    old.close()
    fresh = RateLimiter(tmp_path / "limits", rate=1, burst=2)
    verdict = check(fresh, "k", 5.0)
    assert verdict.allowed or verdict.retry_after <= 1.0
    fresh.close()


def test_more_keys_than_slots_still_work(limiter: RateLimiter) -> None:
    assert all(check(limiter, f"k{number}", 100.0).allowed for number in range(9000))


def test_processes_share_one_budget(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from gateway.middleware.limits import RateLimiter\n"
        "limiter = RateLimiter(Path(sys.argv[1]), rate=200, burst=50)\n"
        "end = time.monotonic() + 0.7\n"
        "allowed = 0\n"
        "while time.monotonic() < end:\n"
        "    allowed += limiter.check('k').allowed\n"
        "    time.sleep(0.0005)\n"
        "print(allowed)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "limits")]
    begin = time.monotonic()
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    allowed = sum(int(worker.communicate(timeout=30)[0]) for worker in workers)
    elapsed = time.monotonic() - begin
    # The budget counts from the first check of the first worker, which is after `begin`.
    assert 50 + 200 * 0.5 <= allowed <= 50 + 200 * elapsed + 1
