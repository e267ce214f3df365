"""Broker: what Celery's workers do, and how Redis is."""

from __future__ import annotations

from deploy.grafana.panels import Board, Panel, Row, number

BROKER = Board(
    "broker",
    "Sightline: Celery and Redis",
    "Workers, tasks, and the broker between them.",
    (
        Row(
            "Now",
            (
                number("Workers", "sum(celery_worker_up)"),
                number("Busy", "sum(celery_worker_tasks_active)", about="Tasks that workers have now."),
                number("Redis", "min(redis_up)", "bool"),
                number("Memory", "redis_memory_used_bytes / redis_memory_max_bytes", "percentunit", warn=0.8),
                number("Clients", "sum(redis_connected_clients)"),
                number("Refused clients", "increase(redis_rejected_connections_total[1h])", warn=1),
            ),
        ),
        Row(
            "Celery",
            (
                Panel(
                    "Tasks",
                    {
                        "received": "sum(rate(celery_task_received_total[$rate]))",
                        "succeeded": "sum(rate(celery_task_succeeded_total[$rate]))",
                        "failed": "sum(rate(celery_task_failed_total[$rate]))",
                    },
                    "ops",
                    about="A task carries a job's id; a job that fails is a task that succeeds.",
                ),
                Panel(
                    "Run time",
                    {
                        "p50": "histogram_quantile(0.5, sum by (le) (rate(celery_task_runtime_bucket[$rate])))",
                        "p95": "histogram_quantile(0.95, sum by (le) (rate(celery_task_runtime_bucket[$rate])))",
                    },
                    "s",
                ),
                Panel("Messages that wait", {"{{queue_name}}": "max by (queue_name) (celery_queue_length)"}),
            ),
        ),
        Row(
            "Redis",
            (
                Panel("Commands", {"commands": "sum(rate(redis_commands_processed_total[$rate]))"}, "ops"),
                Panel(
                    "Network",
                    {
                        "in": "sum(rate(redis_net_input_bytes_total[$rate]))",
                        "out": "sum(rate(redis_net_output_bytes_total[$rate]))",
                    },
                    "binBps",
                ),
                Panel(
                    "Memory",
                    {"used": "sum(redis_memory_used_bytes)", "limit": "sum(redis_memory_max_bytes)"},
                    "bytes",
                ),
                Panel("Keys", {"{{db}}": "sum by (db) (redis_db_keys)"}),
                Panel(
                    "Clients", {"connected": "sum(redis_connected_clients)", "blocked": "sum(redis_blocked_clients)"}
                ),
                Panel(
                    "Written to the log of writes",
                    {"last write": "min(redis_aof_last_write_status)"},
                    "bool",
                    about="What was accepted survives a restart.",
                ),
            ),
        ),
    ),
)
