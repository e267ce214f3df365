"""Programs that tests drive and that come from the system's packages: found, or told how to get."""

from __future__ import annotations

import os
import shutil

import pytest

PACKAGES = {
    "amtool": "prometheus-alertmanager",
    "docker-compose": "docker-compose",
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "prometheus-redis-exporter": "prometheus-redis-exporter",
    "promtool": "prometheus",
}


def program(name: str) -> str:
    """Where a program is. The test fails, with the remedy, where it is not: what it checks would go unchecked."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/bin:/usr/sbin")
    if found is None:
        pytest.fail(
            f"{name} is not installed. `make setup` installs it as root; else: apt-get install {PACKAGES[name]}.",
            pytrace=False,
        )
    return found
