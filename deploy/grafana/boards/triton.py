"""Triton: what it tells of itself, by model; times in its metrics are sums of microseconds."""

from __future__ import annotations

from deploy.grafana.panels import Board, Panel, Row, number

SUCCESS = "rate(nv_inference_request_success[$rate])"


def mean(total: str) -> str:
    """Seconds of a successful request in one of Triton's phases."""
    return f"sum by (model) (rate({total}[$rate])) / sum by (model) ({SUCCESS}) / 1e6"


TRITON = Board(
    "triton",
    "Sightline: Triton",
    "Inference servers: traffic, phases, batches, processors.",
    (
        Row(
            "Now",
            (
                number("Servers", 'sum(up{job="triton"})'),
                number("Requests", f"sum({SUCCESS})", "reqps"),
                number("Failed", "sum(rate(nv_inference_request_failure[$rate]))", "reqps", warn=0.1),
                number("Waiting", "sum(nv_inference_pending_request_count)"),
                number(
                    "Rows in a batch",
                    "sum(rate(nv_inference_count[$rate])) / sum(rate(nv_inference_exec_count[$rate]))",
                    about="Mean.",
                ),
                number("Processor", "max(nv_cpu_utilization)", "percentunit", about="Of the whole machine."),
            ),
        ),
        Row(
            "Models",
            (
                Panel("Requests", {"{{model}}": f"sum by (model) ({SUCCESS})"}, "reqps", kind="stacked"),
                Panel(
                    "Failed",
                    {"{{model}}": "sum by (model) (rate(nv_inference_request_failure[$rate]))"},
                    "reqps",
                ),
                Panel("Waiting", {"{{model}}": "sum by (model) (nv_inference_pending_request_count)"}),
                Panel("Whole request, mean", {"{{model}}": mean("nv_inference_request_duration_us")}, "s"),
                Panel("Queue, mean", {"{{model}}": mean("nv_inference_queue_duration_us")}, "s"),
                Panel("Infer, mean", {"{{model}}": mean("nv_inference_compute_infer_duration_us")}, "s"),
                Panel(
                    "Rows in a batch, mean",
                    {
                        "{{model}}": "sum by (model) (rate(nv_inference_count[$rate]))"
                        " / sum by (model) (rate(nv_inference_exec_count[$rate]))"
                    },
                ),
                Panel(
                    "Share by server",
                    {"{{instance}}": f"sum by (instance) ({SUCCESS})"},
                    "reqps",
                    kind="stacked",
                ),
                Panel("Memory of the machine", {"{{instance}}": "nv_cpu_memory_used_bytes"}, "bytes"),
                Panel(
                    "Models that answer",
                    {"{{model}}": 'min by (model) (sightline_model_ready{job="triton-watchdog"})'},
                    about="Tried by the watchdog with a tiny inference.",
                ),
                Panel(
                    "Repairs in an hour",
                    {
                        "server {{instance}}": "increase(sightline_triton_restarts_total[1h])",
                        "{{model}}": "sum by (model) (increase(sightline_triton_repairs_total[1h]))",
                    },
                ),
                Panel("Servers that answer", {"{{instance}}": "sightline_triton_up"}),
            ),
        ),
        Row(
            "GPUs",
            (
                Panel("Busy", {"{{gpu_uuid}}": "nv_gpu_utilization"}, "percentunit"),
                Panel("Memory", {"{{gpu_uuid}}": "nv_gpu_memory_used_bytes"}, "bytes"),
                Panel("Power", {"{{gpu_uuid}}": "nv_gpu_power_usage"}, "watt"),
            ),
        ),
    ),
)
