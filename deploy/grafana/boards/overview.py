"""Overview: is it up, how much is asked of it, does it answer well, how much more could it take."""

from __future__ import annotations

from deploy.grafana.panels import Board, Panel, Row, number

REQUESTS = 'rate(sightline_requests_total{task!="probe"}[$rate])'
FAILED = 'rate(sightline_requests_total{task!="probe",code=~"5.."}[$rate])'
SECONDS = 'rate(sightline_request_duration_seconds_bucket{task!~"none|probe"}[$rate])'

OVERVIEW = Board(
    "overview",
    "Sightline: Overview",
    "Traffic, errors, latency by task, saturation.",
    (
        Row(
            "Now",
            (
                number("Requests", f"sum({REQUESTS})", "reqps"),
                number(
                    "Failed",
                    f"(sum({FAILED}) or vector(0)) / sum({REQUESTS})",
                    "percentunit",
                    about="Answered with a 5xx. The objective is 0.1 %.",
                    warn=0.001,
                ),
                number("p99", f"histogram_quantile(0.99, sum by (le) ({SECONDS}))", "s", warn=2.5),
                number("Gateways", 'sum(up{job="gateway"})', about="That could be scraped."),
                number(
                    "Models ready",
                    "count(max by (model) (sightline_model_ready) == 1)",
                    about="On one gateway at least.",
                ),
                number("Alerts", 'count(ALERTS{alertstate="firing"}) or vector(0)', warn=1),
            ),
        ),
        Row(
            "Traffic",
            (
                Panel("Requests by task", {"{{task}}": f"sum by (task) ({REQUESTS})"}, "reqps", kind="stacked"),
                Panel("Requests by status", {"{{code}}": f"sum by (code) ({REQUESTS})"}, "reqps", kind="stacked"),
                Panel(
                    "Error budget burn",
                    {
                        "1 hour": "sightline:errors:ratio_rate1h / 0.001",
                        "6 hours": "sightline:errors:ratio_rate6h / 0.001",
                    },
                    about="1 is the rate that uses up a month's allowance in a month; 14.4 over an hour pages.",
                    warn=14.4,
                ),
            ),
        ),
        Row(
            "Latency",
            (
                Panel(
                    "All requests",
                    {
                        f"p{percent}": f"histogram_quantile(0.{percent}, sum by (le) ({SECONDS}))"
                        for percent in (50, 95, 99)
                    },
                    "s",
                ),
                Panel("p99 by task", {"{{task}}": f"histogram_quantile(0.99, sum by (le, task) ({SECONDS}))"}, "s"),
                Panel(
                    "Where the time goes",
                    {
                        "{{stage}}": "sum by (stage) (rate(sightline_stage_duration_seconds_sum[$rate]))"
                        " / sum by (stage) (rate(sightline_stage_duration_seconds_count[$rate]))"
                    },
                    "s",
                    about="Mean of each stage.",
                    kind="stacked",
                ),
            ),
        ),
        Row(
            "Saturation",
            (
                Panel("In flight", {"{{instance}}": "sum by (instance) (sightline_inflight)"}),
                Panel(
                    "Work admitted",
                    {"{{instance}}": "sum by (instance) (sightline_inflight_units)"},
                    about="Inferences by what they cost: an ordinary request is 1, one of many images or texts more."
                    " Each worker admits SIGHTLINE_MAX_INFLIGHT.",
                ),
                Panel("Waiting for a batch", {"{{model}}": "sum by (model) (sightline_queue_depth)"}),
                Panel(
                    "Turned away",
                    {"{{reason}}": "sum by (reason) (rate(sightline_rejected_total[$rate]))"},
                    "reqps",
                    about="overload, deadline and unavailable are the platform's doing, the others the caller's.",
                    kind="stacked",
                ),
                Panel(
                    "Event loop lag",
                    {"{{instance}}": "max by (instance) (sightline_event_loop_lag_seconds)"},
                    "s",
                    warn=0.25,
                ),
                Panel(
                    "Memory of the gateways",
                    {"{{instance}}": "max by (instance) (sightline_resident_memory_bytes)"},
                    "bytes",
                ),
                Panel(
                    "Gateway processes that died",
                    {"{{instance}}": "increase(sightline_worker_restarts_total[1h])"},
                    about="Within an hour.",
                    warn=3,
                ),
            ),
        ),
    ),
)
