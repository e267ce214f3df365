"""Every waiting job is told to a real broker once, and again when the broker lost it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import redis

from services.errors import Problem
from services.jobs import broker, leases
from services.jobs.celery_app import make_app, queue_keys
from services.jobs.dispatch import Dispatcher
from services.jobs.queues import QUEUES
from services.jobs.records import Order
from services.jobs.services import JobServices
from services.settings import Settings


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("b"))
    made = broker.private(settings)
    process = subprocess.Popen(made.argv)
    while not made.ready():
        time.sleep(0.02)
    yield made.url
    process.terminate()
    process.wait(10)


@pytest.fixture
def client(valkey: str) -> Iterator[redis.Redis]:
    with broker.connection(valkey) as opened:
        opened.flushall()
        yield opened


def dispatcher(services: JobServices, valkey: str, max_running: int = 0) -> Dispatcher:
    settings = services.settings.model_copy(update={"redis_url": valkey})
    return Dispatcher(services.engine, make_app(settings), max_running=max_running)


def submit(services: JobServices, number: int = 1, owner: str = "a", priority: int = 0) -> list[str]:
    order = Order("count", "default", {}, priority=priority)
    return [services.jobs.submit(owner, order, max_queued=1000)[0].id for _ in range(number)]


def told(client: redis.Redis, queue: str = "default") -> list[str]:
    """The jobs in the broker, in the order in which a worker would get them."""
    found = []
    for key in queue_keys(queue):
        found += [orjson.loads(m)["headers"]["id"].partition(".")[0] for m in reversed(client.lrange(key, 0, -1))]
    return found


def test_waiting_jobs_are_told_of_once_the_urgent_first(
    services: JobServices, valkey: str, client: redis.Redis
) -> None:
    low, high, middle = (submit(services, 2, priority=priority) for priority in (0, 9, 4))
    dispatching = dispatcher(services, valkey)
    assert dispatching.dispatch() == 6
    assert dispatching.dispatch() == 0
    assert told(client) == high + middle + low
    message = orjson.loads(client.lrange("default", 0, 0)[0])
    assert message["content-type"] == "application/json"
    assert b"parameters" not in orjson.dumps(message)


def test_every_queue_gets_its_own_jobs(services: JobServices, valkey: str, client: redis.Redis) -> None:
    ids = {queue: services.jobs.submit("a", Order("count", queue, {}), max_queued=10)[0].id for queue in QUEUES}
    dispatching = dispatcher(services, valkey)
    assert dispatching.dispatch() == len(QUEUES)
    assert {queue: told(client, queue) for queue in QUEUES} == {queue: [job] for queue, job in ids.items()}
    for _ in range(3):
        assert dispatching.reconcile() == 0  # all are where they belong
    client.flushall()
    assert [dispatching.reconcile(), dispatching.reconcile(), dispatching.dispatch()] == [0, 4, 4]
    assert {queue: told(client, queue) for queue in QUEUES} == {queue: [job] for queue, job in ids.items()}


def test_jobs_that_the_broker_lost_are_told_of_again(services: JobServices, valkey: str, client: redis.Redis) -> None:
    ids = submit(services, 5)
    dispatching = dispatcher(services, valkey)
    dispatching.dispatch()
    assert [dispatching.reconcile() for _ in range(3)] == [0, 0, 0]
    client.flushall()
    assert dispatching.reconcile() == 0  # once may be a message on its way
    assert dispatching.reconcile() == 5
    assert dispatching.dispatch() == 5
    assert told(client) == ids
    client.lpop("default\x06\x169")
    dispatching.reconcile()
    assert dispatching.reconcile() == 1
    dispatching.dispatch()
    assert sorted(told(client)) == ids


def test_a_lost_message_is_found_among_messages_of_cancelled_jobs(
    services: JobServices, valkey: str, client: redis.Redis
) -> None:
    ids = submit(services, 4)
    dispatching = dispatcher(services, valkey)
    dispatching.dispatch()
    services.jobs.cancel("a", ids[0])
    client.rpop("default\x06\x169", 2)  # the cancelled one and one more
    dispatching.reconcile()
    assert dispatching.reconcile() == 1
    dispatching.dispatch()
    assert sorted(told(client)) == ids[1:]


def test_a_job_that_came_back_is_told_of_again(services: JobServices, valkey: str, client: redis.Redis) -> None:
    [job_id] = submit(services)
    dispatching = dispatcher(services, valkey)
    dispatching.dispatch()
    client.flushall()
    lease = leases.claim(services.engine, job_id, "w")
    assert lease is not None and dispatching.dispatch() == 0
    leases.hand_back(services.engine, lease)
    assert dispatching.dispatch() == 1
    assert told(client) == [job_id]


def test_one_owner_cannot_take_all_workers(services: JobServices, valkey: str, client: redis.Redis) -> None:
    mine, yours = submit(services, 5, "a"), submit(services, 2, "b")
    dispatching = dispatcher(services, valkey, max_running=2)
    assert dispatching.dispatch() == 4
    assert told(client) == mine[:2] + yours
    assert dispatching.dispatch() == 0
    lease = leases.claim(services.engine, mine[0], "w")
    assert lease is not None and dispatching.dispatch() == 0
    leases.finish(services.artifacts, services.engine, lease, "succeeded", result={})
    assert dispatching.dispatch() == 1
    assert told(client)[-1] == mine[2]


def test_a_broker_that_is_away_loses_nothing(services: JobServices, valkey: str, client: redis.Redis) -> None:
    submit(services, 3)
    away = dispatcher(services, f"redis+socket://{services.settings.data_dir}/nothing.sock")
    with pytest.raises(Exception, match=r"nothing\.sock"):
        away.dispatch()
    assert dispatcher(services, valkey).dispatch() == 3


def test_a_long_path_gets_a_port_with_a_password(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / ("d" * 60) / ("e" * 60))
    made = broker.private(settings)
    process = subprocess.Popen(made.argv)
    try:
        end = time.monotonic() + 10
        while not made.ready():
            assert time.monotonic() < end
            time.sleep(0.02)
        assert made.url.startswith("redis://:") and made.url == broker.url_of(settings)
        assert (settings.run_dir / "broker.conf").stat().st_mode & 0o77 == 0
        stranger = redis.Redis(port=int(made.url.rpartition(":")[2].partition("/")[0]))
        with pytest.raises(redis.AuthenticationError):
            stranger.ping()
        with broker.connection(made.url) as client:
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("appendonly") == {"appendonly": "yes"}
    finally:
        process.terminate()
        process.wait(10)
    broker.clear(settings)
    with pytest.raises(Problem) as unknown:
        broker.url_of(settings)
    assert unknown.value.code == "broker-unknown"
