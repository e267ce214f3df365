"""Models: for each, whether it is ready, what is asked of it, where its time goes, how it is batched; the GPUs."""

from __future__ import annotations

from deploy.grafana.panels import Board, Panel, Row

CHOSEN = 'model=~"$model"'


def stage_quantile(stage: str, quantile: str) -> str:
    seconds = f'rate(sightline_stage_duration_seconds_bucket{{{CHOSEN},stage="{stage}"}}[$rate])'
    return f"histogram_quantile({quantile}, sum by (le, model) ({seconds}))"


MODELS = Board(
    "models",
    "Sightline: Models",
    "Latency by stage, batches, queues and GPUs, by model.",
    (
        Row(
            "Served",
            (
                Panel(
                    "Ready",
                    {"{{model}} on {{instance}}": f"max by (model, instance) (sightline_model_ready{{{CHOSEN}}})"},
                    "bool",
                    about="No value: unloaded on request.",
                ),
                Panel(
                    "Requests",
                    {"{{model}}": f"sum by (model) (rate(sightline_requests_total{{{CHOSEN}}}[$rate]))"},
                    "reqps",
                ),
                Panel(
                    "p99",
                    {
                        "{{model}}": "histogram_quantile(0.99, sum by (le, model)"
                        f" (rate(sightline_request_duration_seconds_bucket{{{CHOSEN}}}[$rate])))"
                    },
                    "s",
                ),
            ),
        ),
        Row(
            "Stages",
            (
                Panel("Decode, p95", {"{{model}}": stage_quantile("decode", "0.95")}, "s"),
                Panel("Queue, p95", {"{{model}}": stage_quantile("queue", "0.95")}, "s"),
                Panel("Infer, p95", {"{{model}}": stage_quantile("infer", "0.95")}, "s"),
                Panel("Encode, p95", {"{{model}}": stage_quantile("encode", "0.95")}, "s"),
                Panel(
                    "Mean of the stages",
                    {
                        "{{model}} {{stage}}": "sum by (model, stage)"
                        f" (rate(sightline_stage_duration_seconds_sum{{{CHOSEN}}}[$rate]))"
                        f" / sum by (model, stage) (rate(sightline_stage_duration_seconds_count{{{CHOSEN}}}[$rate]))"
                    },
                    "s",
                    width=16,
                ),
            ),
        ),
        Row(
            "Batches",
            (
                Panel(
                    "Rows in a batch, mean",
                    {
                        "{{model}}": f"sum by (model) (rate(sightline_batch_size_sum{{{CHOSEN}}}[$rate]))"
                        f" / sum by (model) (rate(sightline_batch_size_count{{{CHOSEN}}}[$rate]))"
                    },
                ),
                Panel(
                    "Rows in a batch",
                    {"{{le}}": f"sum by (le) (increase(sightline_batch_size_bucket{{{CHOSEN}}}[$rate]))"},
                    kind="heat",
                ),
                Panel("Waiting for a batch", {"{{model}}": f"sum by (model) (sightline_queue_depth{{{CHOSEN}}})"}),
            ),
        ),
        Row(
            "Detection",
            (
                Panel(
                    "Worked on",
                    {
                        "{{model}} {{item}}": "sum by (model, item)"
                        f" (rate(sightline_task_items_total{{{CHOSEN}}}[$rate]))"
                    },
                    "ops",
                    about="Labels, tokens of prompts, chunks, proposals and answered boxes of detection and grounding.",
                    width=16,
                ),
            ),
        ),
        Row(
            "Torch worker",
            (
                Panel(
                    "Up",
                    {"{{instance}}": "sightline_torch_worker_up"},
                    "bool",
                    about="No value: no model that is served needs PyTorch.",
                ),
                Panel("Runs", {"{{instance}} {{state}}": "sightline_torch_worker_runs"}),
                Panel(
                    "Steps",
                    {"{{model}}": f"sum by (model) (rate(sightline_torch_steps_total{{{CHOSEN}}}[$rate]))"},
                    "ops",
                ),
                Panel(
                    "Memory",
                    {
                        "{{instance}}": "sightline_torch_worker_resident_memory_bytes",
                        "{{instance}} limit": "sightline_torch_worker_memory_limit_bytes",
                    },
                    "bytes",
                ),
                Panel(
                    "Started anew",
                    {"{{instance}}": "changes(sightline_torch_worker_start_time_seconds[$rate])"},
                    about="Runs that it had in flight are lost each time.",
                ),
            ),
        ),
        Row(
            "GPUs",
            (
                Panel("Busy", {"{{Hostname}} {{gpu}}": "DCGM_FI_DEV_GPU_UTIL / 100"}, "percentunit"),
                Panel(
                    "Memory in use",
                    {"{{Hostname}} {{gpu}}": "DCGM_FI_DEV_FB_USED / (DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE)"},
                    "percentunit",
                    warn=0.95,
                ),
                Panel("Power", {"{{Hostname}} {{gpu}}": "DCGM_FI_DEV_POWER_USAGE"}, "watt"),
            ),
        ),
    ),
    choose=("model", "sightline_model_ready"),
)
