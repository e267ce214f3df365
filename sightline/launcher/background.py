"""``python -m sightline.launcher.background ROLE``: one process of the platform that answers no requests itself."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gateway import logs
from services.jobs.queues import QUEUES
from services.settings import Settings

if TYPE_CHECKING:
    from services.jobs.kind import JobKind


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sightline.launcher.background", description=__doc__)
    roles = parser.add_subparsers(dest="role", required=True)
    worker = roles.add_parser("worker", help="run the jobs of one queue")
    worker.add_argument("--queue", choices=QUEUES, required=True)
    worker.add_argument("--concurrency", type=int)
    told = "dispatch jobs, take them from the dead, deliver webhooks, tidy up"
    roles.add_parser("maintenance", aliases=["keeper"], help=told)  # its name in releases before
    torch_worker = roles.add_parser("torch-worker", help="run models that need PyTorch")
    torch_worker.add_argument("--fd", type=int, help="a listening socket that was inherited")
    torch_worker.add_argument("--host", default="127.0.0.1")
    torch_worker.add_argument("--port", type=int, default=0)
    options = parser.parse_args(arguments)
    settings = Settings()
    logs.configure(settings.log_level, settings.log_format)
    if options.role == "torch-worker":
        from services.runtime.torch_worker.process import main as torch_main

        if options.fd is not None:
            return torch_main.serve_inherited(settings, options.fd)
        return torch_main.serve_address(settings, options.host, options.port)
    if options.role != "worker":
        from services.jobs import maintenance

        return maintenance.serve(settings)

    from services.jobs.worker import Worker

    def kinds() -> Mapping[str, JobKind[Any]]:
        # In a child: NumPy, which comes with them, starts threads, and the worker forks.
        from services.job_runners import runnable

        return runnable(settings.job_modules)

    concurrency = options.concurrency or settings.worker_concurrency
    return Worker(settings, options.queue, concurrency=concurrency, kinds=kinds).run()


if __name__ == "__main__":
    sys.exit(main())
