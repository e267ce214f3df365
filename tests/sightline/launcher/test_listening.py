"""The launcher's sockets: who may have an address, and where connections go when a worker dies."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from services.errors import Problem
from sightline.launcher.listening import Listeners, is_loopback

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="SO_REUSEPORT balances on Linux only")


def connect(listeners: Listeners) -> socket.socket:
    return socket.create_connection(("127.0.0.1", listeners.port), timeout=2)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_taken_port_is_a_problem_that_names_it(workers: int) -> None:
    first = Listeners.open("127.0.0.1", 0, workers)
    try:
        for count in (1, 2):
            with pytest.raises(Problem) as caught:
                Listeners.open("127.0.0.1", first.port, count)
            assert caught.value.code == "port-in-use"
            assert str(first.port) in caught.value.detail
    finally:
        first.close()


def test_a_port_is_free_again_after_close() -> None:
    first = Listeners.open("127.0.0.1", 0, 2)
    with connect(first):
        first.close()
    Listeners.open("127.0.0.1", first.port, 2).close()


@linux
def test_workers_get_sockets_of_their_own_on_one_port() -> None:
    listeners = Listeners.open("127.0.0.1", 0, 3)
    try:
        assert len({listeners.descriptor(worker) for worker in range(3)}) == 3
        assert {listener.getsockname()[1] for listener in listeners.sockets} == {listeners.port}
    finally:
        listeners.close()


@linux
def test_a_worker_joins_in_when_it_listens() -> None:
    listeners = Listeners.open("127.0.0.1", 0, 2)
    try:
        assert [listeners.accepts(worker) for worker in (0, 1)] == [True, False]
        inherited = socket.socket(fileno=os.dup(listeners.descriptor(1)))
        inherited.listen()
        assert listeners.accepts(1)
        inherited.close()
    finally:
        listeners.close()


@linux
def test_no_connection_waits_for_a_dead_worker_when_another_lives() -> None:
    listeners = Listeners.open("127.0.0.1", 0, 2)
    try:
        listeners.sockets[1].listen()
        descriptor = listeners.descriptor(1)
        listeners.renew(1)
        assert listeners.descriptor(1) == descriptor
        assert not listeners.accepts(1)
        listeners.sockets[0].settimeout(1)
        for _ in range(16):
            with connect(listeners):
                accepted, _ = listeners.sockets[0].accept()
                accepted.close()
    finally:
        listeners.close()


def test_connections_wait_for_the_only_worker_while_it_restarts() -> None:
    listeners = Listeners.open("127.0.0.1", 0, 1)
    try:
        listeners.renew(0)
        with connect(listeners):
            listeners.sockets[0].settimeout(1)
            accepted, _ = listeners.sockets[0].accept()
            accepted.close()
    finally:
        listeners.close()


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(Problem) as caught:
        Listeners.open("192.0.2.1", 0, 1)
    assert caught.value.code == "address-unavailable"


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(Problem) as caught:
        Listeners.open("no-such-host.invalid", 0, 1)
    assert caught.value.code == "address-unknown"


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("localhost", True), ("0.0.0.0", False), ("192.0.2.7", False)],
)
def test_loopback_is_what_only_this_machine_reaches(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_the_url_is_one_that_this_machine_can_use() -> None:
    listeners = Listeners.open("0.0.0.0", 0, 1)
    listeners.close()
    assert listeners.url == f"http://127.0.0.1:{listeners.port}"
