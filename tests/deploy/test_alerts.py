"""Every alert fires when it should and is silent when it should be: promtool runs the rules over made-up series."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.programs import program

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))

OK = 'sightline_requests_total{model="m",task="classify",code="200"}'
FAILED = 'sightline_requests_total{model="m",task="classify",code="500"}'
PROBES = 'sightline_requests_total{model="none",task="probe",code="503"}'


@dataclass(frozen=True)
class Case:
    """Series by minute, in promtool's notation; ``fires`` are the labels of the alert, ``None`` when it must not."""

    alert: str
    series: dict[str, str]
    minutes: int
    fires: dict[str, str] | None = None
    summary: str = ""
    marks: dict[str, str] = field(default_factory=dict)


def buckets(name: str, labels: str, **counts: str) -> dict[str, str]:
    """A histogram: ``le`` with ``_`` for the point, ``inf`` for the last."""
    return {
        f'{name}_bucket{{{labels},le="{le.removeprefix("le").replace("_", ".").replace("inf", "+Inf")}"}}': values
        for le, values in counts.items()
    }


def waits(queue: str, infer: str) -> dict[str, str]:
    """Stages of a model in which all requests take as long as the bucket's bound, in seconds."""
    made: dict[str, str] = {}
    for stage, bound in (("queue", queue), ("infer", infer)):
        for le in ("0.05", "0.1", "0.25", "0.5", "+Inf"):
            below = le != "+Inf" and float(le) < float(bound)
            series = f'sightline_stage_duration_seconds_bucket{{model="m",stage="{stage}",le="{le}"}}'
            made[series] = "0x60" if below else "0+60x60"
    return made


CASES = [
    Case(
        "ErrorBudgetBurnsFast",
        {OK: "0+98x120", FAILED: "0+2x120"},
        90,
        {},
        "2% of requests fail",
    ),
    Case("ErrorBudgetBurnsFast", {OK: "0+990x120", FAILED: "0+10x120"}, 90),
    # It has been over for half an hour: the long window still remembers, the short one does not.
    Case("ErrorBudgetBurnsFast", {OK: "0+98x120", FAILED: "0+5x60 300x60"}, 90),
    Case("ErrorBudgetBurnsFast", {OK: "0+98x120", PROBES: "0+50x120"}, 90),
    Case("ErrorBudgetBurnsFast", {OK: "0+98x120"}, 90),
    Case(
        "ErrorBudgetBurns",
        {OK: "0+990x420", FAILED: "0+10x420"},
        400,
        {},
        "1% of requests have failed over six hours",
    ),
    Case("ErrorBudgetBurns", {OK: "0+9990x420", FAILED: "0+10x420"}, 400),
    Case(
        "LatencyHigh",
        buckets(
            "sightline_request_duration_seconds", 'task="classify"', le1_0="0+97x60", le5_0="0+100x60", inf="0+100x60"
        ),
        30,
        {"task": "classify"},
        "One of a hundred requests for classify takes 3.667s or longer",
    ),
    Case(
        "LatencyHigh",
        buckets(
            "sightline_request_duration_seconds", 'task="classify"', le1_0="0+100x60", le5_0="0+100x60", inf="0+100x60"
        ),
        30,
    ),
    # Watching a job takes as long as the job.
    Case(
        "LatencyHigh",
        buckets("sightline_request_duration_seconds", 'task="none"', le1_0="0x60", le30_0="0+9x60", inf="0+9x60"),
        30,
    ),
    Case("QueueWaitHigh", waits("0.5", "0.1"), 30, {"model": "m"}, "Requests wait 487.5ms for m"),
    Case("QueueWaitHigh", waits("0.25", "0.25"), 30),
    Case("QueueWaitHigh", waits("0.1", "0.05"), 30),
    Case(
        "RequestsRejected",
        {OK: "0+95x60", 'sightline_rejected_total{reason="overload"}': "0+5x60"},
        30,
        {},
        "5.263% of requests are turned away",
    ),
    Case("RequestsRejected", {OK: "0+95x60", 'sightline_rejected_total{reason="bad_image"}': "0+50x60"}, 30),
    Case(
        "EventLoopLags",
        {'sightline_event_loop_lag_seconds{instance="a"}': "0.5x60"},
        30,
        {"instance": "a"},
        "A gateway process of a is 500ms late",
    ),
    Case("EventLoopLags", {'sightline_event_loop_lag_seconds{instance="a"}': "0.01x20 0.5x5 0.01x40"}, 30),
    Case(
        "ModelNotReady",
        {'sightline_model_ready{instance="a",model="m",version="1"}': "1x10 0x60"},
        30,
        {"instance": "a", "model": "m"},
        "a does not serve m",
    ),
    # Version 2 took its place.
    Case(
        "ModelNotReady",
        {
            'sightline_model_ready{instance="a",model="m",version="1"}': "1x10 0x60",
            'sightline_model_ready{instance="a",model="m",version="2"}': "_x9 1x60",
        },
        30,
    ),
    # Somebody unloaded it.
    Case("ModelNotReady", {'sightline_model_ready{instance="a",model="m",version="1"}': "1x10" + " NaN" * 60}, 30),
    Case("ModelNotReady", {'sightline_model_ready{instance="a",model="m",version="1"}': "1x10 0x3 1x60"}, 30),
    Case(
        "WorkersRestart",
        {'sightline_worker_restarts_total{instance="a"}': "0x20 1 2 3 4 5 5x20"},
        26,
        {"instance": "a"},
        "Gateway processes of a died 5 times in 15 minutes",
    ),
    Case("WorkersRestart", {'sightline_worker_restarts_total{instance="a"}': "0x20 1 1x20"}, 26),
    Case(
        "TorchWorkerDown",
        {'sightline_torch_worker_up{instance="a"}': "1x10 0x20"},
        20,
        {"instance": "a"},
        "a does not reach the torch worker",
    ),
    # It starts, and imports PyTorch.
    Case("TorchWorkerDown", {'sightline_torch_worker_up{instance="a"}': "1x10 0x1 1x20"}, 14),
    # No model needs it.
    Case("TorchWorkerDown", {'sightline_torch_worker_up{instance="a"}': "1x10" + " NaN" * 20}, 20),
    Case(
        "TorchWorkerRestarts",
        {'sightline_torch_worker_start_time_seconds{instance="a"}': "1000x20 2000 3000 4000 4000x20"},
        26,
        {"instance": "a"},
        "The torch worker of a was started anew 3 times in 15 minutes",
    ),
    Case(
        "TorchWorkerRestarts",
        {'sightline_torch_worker_start_time_seconds{instance="a"}': "1000x20 2000 3000 3000x20"},
        26,
    ),
    # It is the gateway that was started anew.
    Case(
        "TorchWorkerRestarts",
        {'sightline_torch_worker_start_time_seconds{instance="a"}': "1000x15 0 1000 0 1000 0 1000x20"},
        26,
    ),
    Case(
        "TritonRepaired",
        {'sightline_triton_restarts_total{instance="a"}': "0x20 1 2 3 3x20"},
        26,
        {"instance": "a"},
        "Triton at a had to be repaired 3 times in 15 minutes",
    ),
    Case(
        "TritonRepaired",
        {
            'sightline_triton_repairs_total{instance="a",model="m"}': "0x20 1 2 2x20",
            'sightline_triton_repairs_total{instance="a",model="n"}': "0x20 1 2 2x20",
        },
        26,
        {"instance": "a"},
        "Triton at a had to be repaired 4 times in 15 minutes",
    ),
    Case("TritonRepaired", {'sightline_triton_restarts_total{instance="a"}': "0x20 1 1x20"}, 26),
    Case(
        "TritonFails",
        {
            'nv_inference_request_success{model="m"}': "0+90x60",
            'nv_inference_request_failure{model="m",reason="OTHER"}': "0+10x60",
        },
        30,
        {"model": "m"},
        "10% of Triton's inferences of m fail",
    ),
    Case(
        "TritonFails",
        {
            'nv_inference_request_success{model="m"}': "0+9999x60",
            'nv_inference_request_failure{model="m",reason="OTHER"}': "0+1x60",
        },
        30,
    ),
    # Clients that left are no fault of the server.
    Case(
        "TritonFails",
        {
            'nv_inference_request_success{model="m"}': "0+90x60",
            'nv_inference_request_failure{model="m",reason="CANCELED"}': "0+10x60",
        },
        30,
    ),
    Case(
        "GpuMemoryHigh",
        {
            'DCGM_FI_DEV_FB_USED{gpu="0",Hostname="h"}': "97x60",
            'DCGM_FI_DEV_FB_FREE{gpu="0",Hostname="h"}': "3x60",
        },
        30,
        {"gpu": "0", "Hostname": "h"},
        "GPU 0 of h has 97% of its memory in use",
    ),
    Case(
        "GpuMemoryHigh",
        {'DCGM_FI_DEV_FB_USED{gpu="0",Hostname="h"}': "90x60", 'DCGM_FI_DEV_FB_FREE{gpu="0",Hostname="h"}': "10x60"},
        30,
    ),
    # Two gateways tell the same.
    Case(
        "JobSilent",
        {
            'sightline_job_progress_age_seconds{kind="batch",instance="a"}': "0+60x60",
            'sightline_job_progress_age_seconds{kind="batch",instance="b"}': "0+60x60",
        },
        30,
        {"kind": "batch"},
        "A running batch job has reported no progress for 30m 0s",
    ),
    Case("JobSilent", {'sightline_job_progress_age_seconds{kind="batch",instance="a"}': "600x60"}, 30),
    Case(
        "JobsNotTaken",
        {
            'sightline_job_queue_oldest_seconds{queue="batch",instance="a"}': "0+60x60",
            'sightline_job_queue_running{queue="batch",instance="a"}': "0x60",
        },
        30,
        {"queue": "batch"},
        "Jobs of the queue batch have waited 30m 0s, and none runs",
    ),
    Case(
        "JobsNotTaken",
        {
            'sightline_job_queue_oldest_seconds{queue="batch",instance="a"}': "0+60x60",
            'sightline_job_queue_running{queue="batch",instance="a"}': "1x60",
        },
        30,
    ),
    Case(
        "JobsWaitLong",
        {'sightline_job_queue_oldest_seconds{queue="batch",instance="a"}': "7260+60x60"},
        30,
        {"queue": "batch"},
        "The first job of the queue batch has waited 2h 31m 0s",
    ),
    Case("JobsWaitLong", {'sightline_job_queue_oldest_seconds{queue="batch",instance="a"}': "0+60x60"}, 30),
    Case(
        "JobsFail",
        {
            'sightline_jobs_ended_total{kind="batch",state="failed",instance="a"}': "0+1x60",
            'sightline_jobs_ended_total{kind="batch",state="failed",instance="b"}': "0+1x60",
            'sightline_jobs_ended_total{kind="batch",state="succeeded",instance="a"}': "0+1x60",
            'sightline_jobs_ended_total{kind="batch",state="succeeded",instance="b"}': "0+1x60",
        },
        60,
        {"kind": "batch"},
        "50% of batch jobs failed within the last hour",
    ),
    # One of two failed: too few to wake anybody.
    Case(
        "JobsFail",
        {
            'sightline_jobs_ended_total{kind="batch",state="failed",instance="a"}': "0x10 1x50",
            'sightline_jobs_ended_total{kind="batch",state="succeeded",instance="a"}': "0x10 1x50",
        },
        60,
    ),
    Case(
        "JobDatabaseDown",
        {'sightline_job_database_up{instance="a"}': "1x10 0x50"},
        30,
        {"instance": "a"},
        "a cannot read the database",
    ),
    Case("JobDatabaseDown", {'sightline_job_database_up{instance="a"}': "1x60"}, 30),
    Case(
        "WebhooksPending",
        {'sightline_webhook_deliveries{state="pending",instance="a"}': "150x60"},
        45,
        {},
        "150 webhooks wait to be delivered",
    ),
    Case("WebhooksPending", {'sightline_webhook_deliveries{state="failed",instance="a"}': "150x60"}, 45),
    Case("RedisDown", {"redis_up": "1x5 0x20"}, 10, {}, "The broker does not answer"),
    Case("RedisDown", {"redis_up": "1x20"}, 10),
    Case(
        "RedisMemoryHigh",
        {"redis_memory_used_bytes": "90x60", "redis_memory_max_bytes": "100x60"},
        30,
        {},
        "The broker uses 90% of its memory",
    ),
    Case("RedisMemoryHigh", {"redis_memory_used_bytes": "90x60", "redis_memory_max_bytes": "0x60"}, 30),
    Case("NoGateway", {'up{job="gateway",instance="a"}': "0x20"}, 10, {}, "No gateway answers"),
    Case("NoGateway", {'up{job="gateway",instance="a"}': "0x20", 'up{job="gateway",instance="b"}': "1x20"}, 10),
    Case(
        "TargetDown",
        {'up{job="redis",instance="r:1"}': "1x5 0x20", 'up{job="gateway",instance="a"}': "1x20"},
        10,
        {"job": "redis", "instance": "r:1"},
        "redis at r:1 cannot be scraped",
    ),
    Case("TargetDown", {'up{job="redis",instance="r:1"}': "1x5 0 1x20"}, 10),
    Case(
        "AlertsNotDelivered",
        {'alertmanager_notifications_failed_total{integration="slack",reason="other"}': "0+1x30"},
        20,
        {"integration": "slack"},
        "Alerts do not reach slack",
    ),
    Case(
        "AlertsNotDelivered",
        {'alertmanager_notifications_failed_total{integration="slack",reason="other"}': "3x30"},
        20,
    ),
]


def alerts() -> dict[str, dict[str, Any]]:
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


@pytest.mark.parametrize("alert", sorted(alerts()))
def test_the_alert_fires_when_it_should_and_is_silent_when_not(alert: str, tmp_path: Path) -> None:
    rule, tests = alerts()[alert], []
    cases = [case for case in CASES if case.alert == alert]
    assert {case.fires is None for case in cases} == {True, False}, "one case in which it fires, one in which not"
    for case in cases:
        expected = []
        if case.fires is not None:
            annotations = {**rule["annotations"], "summary": case.summary}
            expected = [{"exp_labels": {**rule["labels"], **case.fires}, "exp_annotations": annotations}]
        tests.append(
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
                "alert_rule_test": [{"eval_time": f"{case.minutes}m", "alertname": alert, "exp_alerts": expected}],
            }
        )
    (tmp_path / "test.yml").write_text(yaml.safe_dump({"rule_files": [str(path) for path in RULES], "tests": tests}))
    done = subprocess.run(
        [program("promtool"), "test", "rules", "test.yml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_case_is_of_an_alert_that_exists() -> None:
    assert {case.alert for case in CASES} == set(alerts())


def test_every_alert_says_how_urgent_it_is_and_has_its_section_in_the_runbook() -> None:
    headings = [
        line[4:].lower()
        for line in (DEPLOY.parent / "docs" / "operations.md").read_text().splitlines()
        if line.startswith("### ")
    ]
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in ("page", "ticket"), name
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}, name
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"
        assert name.lower() in headings, f"docs/operations.md has no section '### {name}'"


def test_promtool_finds_no_fault_in_the_rules() -> None:
    done = subprocess.run([program("promtool"), "check", "rules", *RULES], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_no_fault_in_the_configuration(tmp_path: Path) -> None:
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    token = tmp_path / "token"
    token.write_text("x" * 16)
    text = text.replace("/etc/prometheus/rules", str(DEPLOY / "prometheus" / "rules"))
    (tmp_path / "prometheus.yml").write_text(text.replace("/run/secrets/sightline_metrics_token", str(token)))
    done = subprocess.run(
        [program("promtool"), "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_amtool_finds_no_fault_in_who_is_told() -> None:
    path = DEPLOY / "alertmanager" / "alertmanager.yml"
    done = subprocess.run([program("amtool"), "check-config", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
