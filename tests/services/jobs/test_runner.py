"""One job through the runner: it ends exactly once, and what it made is whole."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from services.jobs import events, leases
from services.jobs.kind import JobKind
from services.jobs.records import Job, Order
from services.jobs.services import JobServices
from services.storage.artifacts import ArtifactStore
from services.storage.blobs import open_blobs
from tests.support.jobs import kinds, run_job

OWNER = "key_a"


def submit(services: JobServices, kind: str, /, **parameters: Any) -> Job:
    known: JobKind[Any] = kinds(services)[kind]
    order = Order(kind, known.queue, known.parameters(**parameters).model_dump(mode="json"))
    return services.jobs.submit(OWNER, order, max_queued=1000)[0]


def output(services: JobServices, job: Job, name: str) -> bytes:
    [made] = [a for a in services.artifacts.of_job(job.id) if a.name == name]
    return b"".join(services.artifacts.read(made))


def numbers(up_to: int) -> bytes:
    return b"".join(b"%d\n" % n for n in range(up_to))


def test_a_job_ends_with_its_result_output_and_story(services: JobServices) -> None:
    job = submit(services, "count", up_to=10)
    assert run_job(services, job.id) == "succeeded"
    job = services.jobs.get(OWNER, job.id)
    assert (job.state, job.result, job.attempt) == ("succeeded", {"total": 45, "counted": 10}, 1)
    assert job.started_at is not None and job.finished_at is not None
    assert output(services, job, "numbers.txt") == numbers(10)
    story = events.after(services.engine, job.id, 0)
    assert [event.seq for event in story] == list(range(1, len(story) + 1))
    assert [e.data["state"] for e in story if e.event == "state"] == ["queued", "running", "succeeded"]
    assert [e.data["metrics"] for e in story if e.event == "metric"] == [{"total": 0}, {"total": 10}]


def test_a_message_delivered_twice_does_the_job_once(services: JobServices) -> None:
    job = submit(services, "count", up_to=3)
    assert run_job(services, job.id) == "succeeded"
    assert run_job(services, job.id) == "not-waiting"
    assert services.jobs.get(OWNER, job.id).attempt == 1


def test_of_many_workers_one_gets_the_job(services: JobServices) -> None:
    job = submit(services, "count", up_to=3)
    won: list[object] = []
    threads = [
        threading.Thread(target=lambda n=n: won.append(leases.claim(services.engine, job.id, f"w{n}")))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([lease for lease in won if lease is not None]) == 1


def test_a_job_goes_on_from_its_checkpoint_and_writes_each_line_once(services: JobServices) -> None:
    job = submit(services, "count", up_to=20, checkpoint_every=3, pause=0.05)
    stop = threading.Event()
    outcome: list[str] = []
    thread = threading.Thread(target=lambda: outcome.append(run_job(services, job.id, shutdown=stop.is_set)))
    thread.start()
    while services.jobs.get(OWNER, job.id).checkpoint is None:
        time.sleep(0.02)
    stop.set()
    thread.join()
    assert outcome == ["handed-back"]
    waiting = services.jobs.get(OWNER, job.id)
    assert (waiting.state, waiting.deaths) == ("queued", 0)
    assert run_job(services, job.id) == "succeeded"
    job = services.jobs.get(OWNER, job.id)
    assert (job.attempt, job.result) == (2, {"total": 190, "counted": 20})
    assert output(services, job, "numbers.txt") == numbers(20)
    assert not services.artifacts.of_job(job.id, "segment")
    assert not services.artifacts.of_job(job.id, "checkpoint")


def test_a_worker_that_lost_its_lease_publishes_nothing(services: JobServices) -> None:
    job = submit(services, "count", up_to=40, checkpoint_every=0, pause=0.05)
    outcome: list[str] = []
    thread = threading.Thread(target=lambda: outcome.append(run_job(services, job.id, worker="first")))
    thread.start()
    while not leases.holdings(services.engine):
        time.sleep(0.02)
    for _ in range(50):  # between two beats
        [holding] = leases.holdings(services.engine)
        if leases.take_away(services.engine, holding, max_deaths=3, reason="test") == "queued":
            break
    second = leases.claim(services.engine, job.id, "second")
    assert second is not None
    thread.join()
    assert outcome == ["lost"]
    now = services.jobs.get(OWNER, job.id)
    assert (now.state, now.fence, now.result) == ("running", second.fence, None)
    assert not services.artifacts.of_job(job.id)


def test_cancelling_a_running_job_stops_it_at_its_next_step(services: JobServices) -> None:
    job = submit(services, "count", up_to=1000, pause=0.02)
    outcome: list[str] = []
    thread = threading.Thread(target=lambda: outcome.append(run_job(services, job.id)))
    thread.start()
    while services.jobs.get(OWNER, job.id).checkpoint is None:
        time.sleep(0.02)
    services.jobs.cancel(OWNER, job.id)
    thread.join(5)
    assert outcome == ["cancelled"]
    job = services.jobs.get(OWNER, job.id)
    assert job.state == "cancelled"
    partial = output(services, job, "numbers.txt")
    assert partial == numbers(partial.count(b"\n"))
    again = services.jobs.retry(OWNER, job.id, max_queued=10)
    assert (again.state, again.checkpoint) == ("queued", job.checkpoint)


@pytest.mark.parametrize(
    ("how", "code"), [("problem", "labels-missing"), ("crash", "job-crashed"), ("not-json", "job-crashed")]
)
def test_a_failure_is_told_with_its_reason(services: JobServices, how: str, code: str) -> None:
    job = submit(services, "fail", how=how)
    assert run_job(services, job.id) == "failed"
    job = services.jobs.get(OWNER, job.id)
    assert job.state == "failed" and job.error is not None and job.result is None
    assert job.error["code"] == code
    assert job.error.get("pointer") == ("/labels" if how == "problem" else None)


def test_numbers_that_json_cannot_hold_become_null(services: JobServices) -> None:
    job = submit(services, "fail", how="nan")
    assert run_job(services, job.id) == "succeeded"
    assert services.jobs.get(OWNER, job.id).result == {"loss": None}
    [metric] = [e for e in events.after(services.engine, job.id, 0) if e.event == "metric"]
    assert metric.data["metrics"] == {"loss": None, "accuracy": 0.5}


def test_passing_trouble_is_waited_out(services: JobServices) -> None:
    job = submit(services, "fail", how="passing", times=1)
    assert run_job(services, job.id) == "succeeded"
    job = services.jobs.get(OWNER, job.id)
    assert (job.result, job.attempt) == ({"tries": 2}, 1)


def test_three_lost_workers_in_a_row_fail_a_job(services: JobServices) -> None:
    job = submit(services, "count")
    for death in (1, 2, 3):
        assert leases.claim(services.engine, job.id, "w") is not None
        [holding] = leases.holdings(services.engine)
        state = leases.take_away(services.engine, holding, max_deaths=3, reason="its process is gone")
        assert state == ("failed" if death == 3 else "queued")
    job = services.jobs.get(OWNER, job.id)
    assert job.state == "failed" and job.error is not None
    assert job.error["code"] == "job-worker-lost" and "its process is gone" in job.error["detail"]
    assert leases.claim(services.engine, job.id, "w") is None
    assert services.jobs.retry(OWNER, job.id, max_queued=10).state == "queued"
    assert run_job(services, job.id) == "succeeded"


def test_a_new_checkpoint_forgives_lost_workers_and_the_same_one_does_not(services: JobServices) -> None:
    job = submit(services, "count")
    for state, deaths in ((b"1", 0), (b"2", 0), (b"2", 1), (b"2", 2), (b"3", 0)):
        lease = leases.claim(services.engine, job.id, "w")
        assert lease is not None
        with services.artifacts.draft() as draft:
            draft.write(state)
            leases.checkpoint(services.engine, services.artifacts, lease, draft, segments={}, progress={})
        assert services.jobs.get(OWNER, job.id).deaths == deaths
        [holding] = leases.holdings(services.engine)
        assert leases.take_away(services.engine, holding, max_deaths=4, reason="test") == "queued"


def test_a_sign_of_life_saves_the_lease(services: JobServices) -> None:
    job = submit(services, "count")
    lease = leases.claim(services.engine, job.id, "w")
    assert lease is not None
    [seen] = leases.holdings(services.engine)
    leases.beat(services.engine, lease)
    assert leases.take_away(services.engine, seen, max_deaths=3, reason="test") is None
    assert services.jobs.get(OWNER, job.id).state == "running"


def test_a_lost_worker_of_a_cancelled_job_does_not_bring_it_back(services: JobServices) -> None:
    job = submit(services, "count")
    assert leases.claim(services.engine, job.id, "w") is not None
    services.jobs.cancel(OWNER, job.id)
    [holding] = leases.holdings(services.engine)
    assert leases.take_away(services.engine, holding, max_deaths=3, reason="test") == "cancelled"


def test_outputs_beyond_the_quota_fail_the_job_and_do_not_hang_it(services: JobServices) -> None:
    small = ArtifactStore(
        services.engine,
        open_blobs(services.settings.artifact_address),
        services.settings.scratch_dir,
        quota_bytes=50,
    )
    tight = replace(services, artifacts=small)
    for kind, parameters in (("write", {"bytes": 1000}), ("count", {"up_to": 40})):
        job = submit(tight, kind, **parameters)
        assert run_job(tight, job.id) == "failed"
        error = tight.jobs.get(OWNER, job.id).error
        assert error is not None and error["code"] == "artifact-quota"
        assert not tight.artifacts.of_job(job.id)
    assert not list(services.settings.scratch_dir.glob("*"))[1:]  # nothing but the folder of attempts


def test_a_kind_that_this_worker_does_not_know_fails_and_says_so(services: JobServices) -> None:
    order = Order("from-the-future", "default", {})
    job, _ = services.jobs.submit(OWNER, order, max_queued=10)
    assert run_job(services, job.id) == "failed"
    error = services.jobs.get(OWNER, job.id).error
    assert error is not None and error["code"] == "job-kind-unknown"


def test_parameters_of_another_version_fail_and_name_the_field(services: JobServices) -> None:
    job, _ = services.jobs.submit(OWNER, Order("count", "default", {"up_too": 3}), max_queued=10)
    assert run_job(services, job.id) == "failed"
    error = services.jobs.get(OWNER, job.id).error
    assert error is not None and (error["code"], error["pointer"]) == ("parameters-invalid", "/parameters/up_too")


def test_old_jobs_expire_with_what_they_made(services: JobServices) -> None:
    done, waiting = submit(services, "count", up_to=3), submit(services, "count")
    run_job(services, done.id)
    assert services.jobs.expire(time.time() - 60) == 0
    assert services.jobs.expire(time.time() + 60) == 1
    assert [job.id for job in services.jobs.list(OWNER)] == [waiting.id]
    folder = services.settings.data_dir / "artifacts"
    assert not [path for path in folder.rglob("*") if path.is_file()]
    assert events.after(services.engine, done.id, 0) == []
