"""Triton's counters of a version, added up over its servers."""

from __future__ import annotations

import asyncio
from typing import Any

from services.runtime.protocol import Statistics
from services.runtime.triton.channel import Failure
from services.runtime.triton.fleet import Fleet
from services.runtime.triton.remote import Remote


async def refresh(served: Remote, fleet: Fleet) -> None:
    """Ask every server that answers."""
    asked = [replica.channel.statistics(*served.key) for replica in fleet.replicas if replica.serves(served.key)]
    told = await asyncio.gather(*asked, return_exceptions=True)
    total = Statistics()
    for one in told:
        if isinstance(one, BaseException):
            if not isinstance(one, Failure):
                raise one
            continue
        _add(total, one)
    served.counted = total


def _add(total: Statistics, told: Any) -> None:
    stats = told.inference_stats
    total.inference_count += told.inference_count
    total.execution_count += told.execution_count
    total.success_count += stats.success.count
    total.success_ns += stats.success.ns
    total.fail_count += stats.fail.count
    total.fail_ns += stats.fail.ns
    total.queue_ns += stats.queue.ns
    total.infer_ns += stats.compute_infer.ns
    total.input_ns += stats.compute_input.ns
    total.output_ns += stats.compute_output.ns
    total.last_inference_ms = max(total.last_inference_ms, told.last_inference)

    for batch in told.batch_stats:
        size = batch.batch_size
        total.batch_counts[size] = total.batch_counts.get(size, 0) + batch.compute_infer.count
        total.batch_ns[size] = total.batch_ns.get(size, 0) + batch.compute_infer.ns
