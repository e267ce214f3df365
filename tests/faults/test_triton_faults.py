"""Some cells of the Triton matrix in every run of the suite; all of it: ``python tests/faults/triton_matrix.py``."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.faults.triton_cells import DEADLINE, Cell, House, house, killed, play, stopped, stub_killed, updated
from tests.support.serving import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

RECOVERY = 10.0
"""Seconds after a process is back, or a dead model was found, until everything is used again."""


def ready(house: House) -> int:
    return httpx.get(f"{house.server.url}/readyz", timeout=10).status_code


def test_with_two_servers_no_client_sees_that_one_dies_hangs_or_changes_its_models(tmp_path: Path) -> None:
    with house(tmp_path, 2, workers=2) as made:
        for fault in (stub_killed, stopped, updated):
            outcome = play(Cell(fault, 2), made)
            assert len(outcome.seen) > 100
            assert not outcome.failures and not outcome.refused, (outcome.name, outcome.failures[:3])
            assert outcome.back < RECOVERY, outcome.name


def test_with_one_server_clients_are_told_at_once_when_to_come_again(tmp_path: Path) -> None:
    with house(tmp_path, 1) as made:
        assert ready(made) == 200
        for fault in (stopped, killed):
            outcome = play(Cell(fault, 1), made)
            assert outcome.refused and not outcome.failures, (outcome.name, outcome.failures[:3])
            assert outcome.longest < DEADLINE
            assert outcome.back < RECOVERY, outcome.name
        made.replicas[0].kill()
        eventually(lambda: ready(made) == 503, 5)
        refusal = httpx.post(f"{made.server.url}/v2/models/tiny-adder/infer", json={"inputs": []})
        assert refusal.status_code == 503 and float(refusal.headers["retry-after"]) > 0
        assert made.replicas[0].grpc in refusal.json()["error"]
