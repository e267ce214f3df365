"""What the gateway adds to a Triton server: the same network in one tritonserver, asked through it and directly.

MLServer has it, too, and is asked as Triton is.

``python -m speed.triton [--quick] [--write]``, after ``make setup``. Prints markdown.

Asked directly means ``tritonclient.grpc.aio`` in one process, once with the tensor in the message and once in shared
memory. Every row sends the same 602 kB tensor but the last, which sends the 18 kB JPEG that it was made from.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from speed import meter, tiny
from speed.loadgen import Point, Request, measure
from speed.oip_servers import mlserver, tritonserver
from speed.servers import Setting, running, sightline
from speed.serving import REPORT, cpu_name

USERS = (1, 8, 32)
DIRECT, SHARED = "tritonclient grpc.aio", "tritonclient grpc.aio, shared memory"
MLSERVER = "MLServer, tritonclient grpc.aio"
OURS, JPEG = "Sightline over Triton, OIP binary tensor", "Sightline over Triton, raw image/jpeg"


@dataclass
class Sample:
    """One measurement; CPU in milliseconds a request, of the gateway, of Triton with its models, and of the client."""

    rate: float
    p50: float
    p99: float
    gateway: float
    triton: float
    client: float
    failed: int


Rows = dict[str, dict[int, list[Sample]]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="speed.triton", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each point")
    parser.add_argument("--rounds", type=int, default=3, help="the middle one counts, and the spread is shown")
    parser.add_argument("--quick", action="store_true", help="a second a point, one round")
    parser.add_argument("--write", action="store_true", help=f"append the table to {REPORT.name}")
    options, _ = parser.parse_known_args()  # make bench hands the same arguments to every benchmark
    if options.quick:
        options.seconds, options.rounds = 1.0, 1
    with tempfile.TemporaryDirectory(prefix="sightline-bench-") as folder:
        text = report(Setting.make(Path(folder)), options)
    print("\n" + text)
    if options.write:
        with REPORT.open("a") as out:
            out.write("\n" + text)
        print(f"appended to {REPORT}")
    return 0


def report(setting: Setting, options: argparse.Namespace) -> str:
    """Run everything; the table as markdown."""
    ours = sightline(setting, 1)
    requests = [request for name, request in ours.requests.items() if "OIP" in name or "raw" in name]
    named = {OURS if "/v2/" in request.url else JPEG: request for request in requests}
    rows: Rows = {}
    with tritonserver(setting.folder / "sightline-1", setting.folder / "log-triton") as (pid, address):
        more = {"SIGHTLINE_RUNTIME": "triton", "SIGHTLINE_TRITON_URLS": address}
        server = replace(ours, requests=named, environment={**ours.environment, **more})
        peer = mlserver(setting, setting.folder / "log-mlserver")
        with running(server, setting.folder / "log") as (gateway, asked), peer as (other, other_address):
            for number in range(options.rounds):
                for users in USERS:
                    taken = takes(setting, address, pid, gateway, asked, options.seconds)
                    taken[MLSERVER] = partial(direct, setting, other_address, other, seconds=options.seconds)
                    for name, take in taken.items():
                        sample = take(users)
                        rows.setdefault(name, {}).setdefault(users, []).append(sample)
                        print(f"round {number + 1}, {users} users, {name}: {sample.rate:.0f}/s", file=sys.stderr)
    return "\n".join([heading(options), "", *table(rows), "", *verdict(rows)]) + "\n"


def takes(
    setting: Setting, address: str, pid: int, gateway: int, asked: dict[str, Request], seconds: float
) -> dict[str, Callable[[int], Sample]]:
    """How each row is measured, by name; in turn, so that a busy moment of the machine meets all alike."""
    taken: dict[str, Callable[[int], Sample]] = {
        name: lambda users, shared=name == SHARED: direct(setting, address, pid, users, seconds, shared)  # type: ignore[misc]
        for name in (DIRECT, SHARED)
    }
    for name, request in asked.items():
        taken[name] = lambda users, request=request: through(request, gateway, pid, users, seconds)  # type: ignore[misc]
    return taken


def through(request: Request, gateway: int, triton: int, users: int, seconds: float) -> Sample:
    """Ask the gateway."""
    measure(request, gateway, users=users, seconds=min(1.0, seconds), warm_up=0)
    before, mine = meter.usage(triton).cpu, time.process_time()
    point = measure(request, gateway, users=users, seconds=seconds, warm_up=0)
    spent, own = meter.usage(triton).cpu - before, time.process_time() - mine
    return _sample(point, point.cpu, spent, own)


def direct(setting: Setting, address: str, triton: int, users: int, seconds: float, shared: bool = False) -> Sample:
    """Ask Triton, or whoever speaks its protocol at ``address``."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_direct(setting, address, triton, users, seconds, shared))


async def _direct(setting: Setting, address: str, triton: int, users: int, seconds: float, shared: bool) -> Sample:
    import tritonclient.utils.shared_memory as shm
    from tritonclient.grpc import InferInput, InferRequestedOutput
    from tritonclient.grpc.aio import InferenceServerClient

    tensor = tiny.tensor(setting.jpeg)
    outputs = [InferRequestedOutput("logits")]

    async with InferenceServerClient(address) as client:

        async def use(number: int, point: Point, end: float) -> None:
            name, region = f"bench-{os.getpid()}-{number}", None
            if shared:
                region = shm.create_shared_memory_region(name, f"/{name}", tensor.nbytes)
                await client.register_system_shared_memory(name, f"/{name}", tensor.nbytes)
            while time.perf_counter() < end:
                begin = time.perf_counter()
                given = InferInput("image", list(tensor.shape), "FP32")
                if region is not None:
                    shm.set_shared_memory_region(region, [tensor])
                    given.set_shared_memory(name, tensor.nbytes)
                else:
                    given.set_data_from_numpy(tensor)
                answer = await client.infer("tiny", [given], outputs=outputs)
                if int(np.argmax(answer.as_numpy("logits"))) != setting.answer:
                    point.wrong += 1
                point.latencies[200].append(time.perf_counter() - begin)
            if region is not None:
                await client.unregister_system_shared_memory(name)
                shm.destroy_shared_memory_region(region)

        async def all_of_them(length: float) -> Point:
            point, begin = Point(), time.perf_counter()
            await asyncio.gather(*(use(number, point, begin + length) for number in range(users)))
            point.seconds = time.perf_counter() - begin
            return point

        await all_of_them(min(1.0, seconds))
        before, mine = meter.usage(triton).cpu, time.process_time()
        point = await all_of_them(seconds)
        return _sample(point, 0.0, meter.usage(triton).cpu - before, time.process_time() - mine)


def _sample(point: Point, gateway: float, triton: float, client: float) -> Sample:
    each = 1e3 / max(1, point.good)
    return Sample(point.rate, point.ms(0.5), point.ms(0.99), gateway * each, triton * each, client * each, point.failed)


def heading(options: argparse.Namespace) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("tritonclient", "grpcio", "uvicorn"))
    return (
        f"### Sightline over Triton, {time.strftime('%Y-%m-%d')}\n\n"
        f"{cpu_name()}, {os.cpu_count()} CPUs shared by tritonserver 2.51 (Python backend, one instance), gateway and "
        f"client; Python {platform.python_version()}, {packages}. Tiny network, one item a request, answers checked; "
        f"median of {options.rounds} rounds of {options.seconds:g} s, range of the rates. CPU ms a request: "
        "gateway + server + client. MLServer 1.7.1 without workers of its own. `python -m speed.triton`"
    )


def table(rows: Rows) -> list[str]:
    lines = [
        "| asked through | " + " | ".join(f"c={users}: req/s · p50/p99 ms · CPU ms" for users in USERS) + " | failed |"
    ]
    lines.append("|---|" + "---|" * (len(USERS) + 1))
    for name, points in rows.items():
        cells = []
        for users in USERS:
            middle, low, high = _middle(points[users]), *_spread(points[users])
            cells.append(
                f"{middle.rate:.0f} [{low:.0f}-{high:.0f}] · {middle.p50:.1f}/{middle.p99:.1f} · "
                f"{middle.gateway:.2f} + {middle.triton:.2f} + {middle.client:.2f}"
            )
        failed = sum(one.failed for several in points.values() for one in several)
        lines.append(f"| {name} | {' | '.join(cells)} | {failed} |")
    return lines


def verdict(rows: Rows) -> list[str]:
    """The gateway against asking directly, at each number of users."""
    lines = []
    for base in (DIRECT, SHARED):
        parts = []
        for users in USERS:
            ours, theirs = _middle(rows[OURS][users]), _middle(rows[base][users])
            more = ours.gateway + ours.triton + ours.client - theirs.triton - theirs.client
            parts.append(f"c={users}: {ours.rate / theirs.rate:.0%} of its rate, {more:+.2f} ms of CPU a request")
        lines += [f"The tensor through the gateway against {base}: " + "; ".join(parts) + ".", ""]
    return lines


def _middle(samples: list[Sample]) -> Sample:
    """The sample with the median rate."""
    return sorted(samples, key=lambda one: one.rate)[len(samples) // 2]


def _spread(samples: list[Sample]) -> tuple[float, float]:
    rates = [one.rate for one in samples]
    return min(rates), max(rates)


if __name__ == "__main__":
    sys.exit(main())
