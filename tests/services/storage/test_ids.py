"""Ids sort in the order in which one process made them."""

from __future__ import annotations

import threading
import time

import pytest

from services.storage.ids import is_id, new_id


def test_ids_of_one_millisecond_sort_as_they_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time() + 3600.0
    monkeypatch.setattr(time, "time", lambda: now)
    made = [new_id("job") for _ in range(2_000)]
    assert made == sorted(set(made))
    assert all(is_id(one, "job") for one in made)


def test_ids_sort_though_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = new_id("job")
    monkeypatch.setattr(time, "time", lambda: 1_000.0)
    assert before < new_id("job") < new_id("job")


def test_an_id_does_not_tell_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time() + 7200.0
    monkeypatch.setattr(time, "time", lambda: now)
    made = [new_id("job")[-13:] for _ in range(100)]  # the last 65 bits
    assert len(set(made)) == 100
    assert len({one[:4] for one in made}) > 50


def test_threads_never_share_an_id() -> None:
    made: list[list[str]] = []

    def make() -> None:
        made.append([new_id("art") for _ in range(500)])

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one for some in made for one in some}) == 2_000
    assert all(some == sorted(some) for some in made)
