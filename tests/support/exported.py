"""Every metric that the platform exports, asked of the code that does it; and those of other programs."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.core import Metric

from gateway.telemetry import Telemetry
from services.jobs.metrics import JobMetrics
from services.storage.database import connect, upgrade
from sightline.triton.watched import Watched

WATCHING = frozenset({"up", "ALERTS", "alertmanager_notifications_failed_total"})

TRITON = frozenset(
    {
        "nv_cpu_memory_used_bytes",
        "nv_cpu_utilization",
        "nv_inference_compute_infer_duration_us",
        "nv_inference_count",
        "nv_inference_exec_count",
        "nv_inference_pending_request_count",
        "nv_inference_queue_duration_us",
        "nv_inference_request_duration_us",
        "nv_inference_request_failure",
        "nv_inference_request_success",
    }
)
"""As tritonserver 2.51 exports them with a processor alone."""

GPU = frozenset(
    {
        "DCGM_FI_DEV_FB_FREE",
        "DCGM_FI_DEV_FB_USED",
        "DCGM_FI_DEV_GPU_UTIL",
        "DCGM_FI_DEV_POWER_USAGE",
        "nv_gpu_memory_used_bytes",
        "nv_gpu_power_usage",
        "nv_gpu_utilization",
    }
)
"""As dcgm-exporter and tritonserver document them; nothing exports them where there is no GPU."""

CELERY = frozenset(
    {
        "celery_queue_length",
        "celery_task_failed_total",
        "celery_task_received_total",
        "celery_task_runtime_bucket",
        "celery_task_succeeded_total",
        "celery_worker_tasks_active",
        "celery_worker_up",
    }
)

REDIS = frozenset(
    {
        "redis_aof_last_write_status",
        "redis_blocked_clients",
        "redis_commands_processed_total",
        "redis_connected_clients",
        "redis_db_keys",
        "redis_memory_max_bytes",
        "redis_memory_used_bytes",
        "redis_net_input_bytes_total",
        "redis_net_output_bytes_total",
        "redis_rejected_connections_total",
        "redis_up",
    }
)


def own(folder: Path) -> set[str]:
    """The names under which the metrics of gateway and watchdog can be asked for; ``folder`` is for a database."""
    database = f"sqlite:///{folder / 'empty.db'}"
    upgrade(database)
    engine = connect(database)
    telemetry = Telemetry(folder / "metrics")
    try:
        families = [*telemetry.registry.collect(), *JobMetrics(engine).collect(), *Watched("").registry.collect()]
    finally:
        engine.dispose()
    # Only the launcher's folder has it.
    names = {"sightline_worker_restarts_total"}
    for family in families:
        names |= _names(family)
    return names


def _names(family: Metric) -> set[str]:
    suffixes = {
        "counter": ("_total",),
        "histogram": ("_bucket", "_sum", "_count"),
        "summary": ("_sum", "_count"),
    }.get(family.type, ("",))
    return {family.name + suffix for suffix in suffixes}
