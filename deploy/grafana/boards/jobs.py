"""Jobs: how many in which state, how long they wait and run, whether they move, whether their owners are told.

The numbers come from the database, so every gateway tells the same: ``max`` over them, never ``sum``.
"""

from __future__ import annotations

from deploy.grafana.panels import Board, Panel, Row, number


def over_ended(total: str) -> str:
    """The mean of a sum over jobs that ended lately."""
    each = "max by (kind, state)"
    return f"sum by (kind) ({each} (rate({total}_sum[$rate]))) / sum by (kind) ({each} (rate({total}_count[$rate])))"


JOBS = Board(
    "jobs",
    "Sightline: Jobs",
    "States, waits, run times, progress, webhooks.",
    (
        Row(
            "Now",
            (
                number("Waiting", "sum(max by (queue) (sightline_job_queue_length))"),
                number("Running", "sum(max by (queue) (sightline_job_queue_running))"),
                number("First has waited", "max(sightline_job_queue_oldest_seconds)", "s", warn=7200),
                number(
                    "Silent for",
                    "max(sightline_job_progress_age_seconds) or vector(0)",
                    "s",
                    about="Since the running job that has been silent the longest reported progress.",
                    warn=900,
                ),
                number(
                    "Failed within an hour",
                    'sum(max by (kind) (increase(sightline_jobs_ended_total{state="failed"}[1h]))) or vector(0)',
                    warn=5,
                ),
                number("Database", "min(sightline_job_database_up)", "bool"),
            ),
        ),
        Row(
            "Queues",
            (
                Panel("Waiting", {"{{queue}}": "max by (queue) (sightline_job_queue_length)"}, kind="stacked"),
                Panel("Running", {"{{queue}}": "max by (queue) (sightline_job_queue_running)"}, kind="stacked"),
                Panel("First has waited", {"{{queue}}": "max by (queue) (sightline_job_queue_oldest_seconds)"}, "s"),
            ),
        ),
        Row(
            "Work",
            (
                Panel(
                    "Ended",
                    {"{{kind}} {{state}}": "max by (kind, state) (rate(sightline_jobs_ended_total[$rate]))"},
                    "ops",
                    kind="stacked",
                ),
                Panel("Kept", {"{{kind}} {{state}}": "max by (kind, state) (sightline_jobs)"}, kind="stacked"),
                Panel(
                    "Since progress", {"{{kind}}": "max by (kind) (sightline_job_progress_age_seconds)"}, "s", warn=900
                ),
                Panel(
                    "Wait, mean",
                    {"{{kind}}": over_ended("sightline_job_wait_seconds")},
                    "s",
                    about="From submission to first start.",
                ),
                Panel(
                    "Run time, mean",
                    {"{{kind}}": over_ended("sightline_job_run_seconds")},
                    "s",
                    about="From first start to end.",
                ),
                Panel("Webhooks", {"{{state}}": "max by (state) (sightline_webhook_deliveries)"}, kind="stacked"),
            ),
        ),
    ),
)
