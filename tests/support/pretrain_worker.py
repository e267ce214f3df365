"""Does one pre-training job, for tests that kill it: ``python -m tests.support.pretrain_worker DATA JOB``."""

from __future__ import annotations

import sys
from pathlib import Path

from services.jobs.services import JobServices
from services.pretraining import run as pretrain
from services.settings import Settings
from tests.support.jobs import run_job

if __name__ == "__main__":
    pretrain.CHECKPOINT_SECONDS = 0.0  # after every step, so that there is one to go on from
    services = JobServices.open(Settings(data_dir=Path(sys.argv[1]), job_heartbeat=0.2, job_lease=2.0))
    print(run_job(services, sys.argv[2]))
