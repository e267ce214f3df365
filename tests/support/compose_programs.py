"""The programs that stand in for images: those of the checkout for the platform's own, installed ones for the rest."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.jobs import broker
from tests.support import postgres
from tests.support.programs import program

ROOT = Path(__file__).parents[2]
EXPORTER = ROOT / ".venv-celery-exporter" / "bin" / "python"
TRITON = ROOT / ".venv-triton"


def argv(service: str, arguments: Sequence[str], volume: Path, port: int) -> list[str]:
    """What to execute for ``service`` with ``arguments``, which follow its image's entrypoint."""
    match service:
        case "redis":
            assert arguments[0] == "valkey-server"
            return [str(broker._binary()), *arguments[1:]]
        case "postgres":
            assert arguments[0] == "postgres"
            return _postgres(arguments[1:], volume, port)
        case "prometheus":
            return [program("prometheus"), *arguments]
        case "alertmanager":
            return [program("prometheus-alertmanager"), *arguments]
        case "redis-exporter":
            return [program("prometheus-redis-exporter"), *arguments]
        case "celery-exporter":
            assert EXPORTER.exists(), "celery-exporter is not installed: `make setup` does it"
            python, script = entrypoint("celery-exporter")
            assert python == "python"
            return [str(EXPORTER), str(ROOT / "deploy" / "docker" / Path(script).name), *arguments]
    assert entrypoint("sightline") == ["sightline"]
    return [str(Path(sys.executable).parent / "sightline"), *arguments]


def entrypoint(dockerfile: str) -> list[str]:
    """The entrypoint that a Dockerfile of this project gives its image."""
    text = (ROOT / "deploy" / "docker" / f"{dockerfile}.Dockerfile").read_text()
    (found,) = re.findall(r"^ENTRYPOINT (\[.*\])$", text, re.MULTILINE)
    loaded = json.loads(found)
    assert isinstance(loaded, list)
    return loaded


def image_environment(service: dict[str, Any]) -> dict[str, str]:
    """The variables that the image of the platform itself sets."""
    image = str(service["image"]).partition(":")[0]
    if image not in ("sightline-gateway", "sightline-trainer", "sightline-triton"):
        return {}
    text = (ROOT / "deploy" / "docker" / "sightline.Dockerfile").read_text()
    stages = dict(re.findall(r"^FROM \S+ AS (\S+)\n((?:(?!FROM ).*\n?)*)", text, re.MULTILINE))
    told = stages["runtime"] + stages[image.removeprefix("sightline-")]
    told = told.replace("/opt/triton", str(TRITON))
    return dict(re.findall(r"\b(SIGHTLINE_\w+)=(\S+)", told))


def user_of(service: str) -> int | None:
    """PostgreSQL does not run as root."""
    return postgres._unprivileged() if service == "postgres" else None


def postgres_is_ready(options: Sequence[str], port: int) -> bool:
    done = subprocess.run([postgres._binary("pg_isready"), *options, f"--port={port}"])
    return done.returncode == 0


def _postgres(options: Sequence[str], volume: Path, port: int) -> list[str]:
    """What the image's script does: make the cluster at the first start, then become the server."""
    data = volume / "pgdata"
    user = postgres._unprivileged()
    if not data.exists():
        for folder in (volume, volume.parent, volume.parents[1]):
            folder.chmod(0o755)
        if user is not None:
            os.chown(volume, user, -1)
        password = volume / "password"
        password.write_text((volume.parents[1] / "made" / "postgres_password").read_text())
        made = ["-D", str(data), "--username=sightline", f"--pwfile={password}", "--auth-host=scram-sha-256"]
        made += ["--auth-local=trust", "--data-checksums", "--no-sync", "--encoding=UTF8", "--locale=C"]
        subprocess.run([postgres._binary("initdb"), *made], user=user, check=True, capture_output=True, cwd=volume)
        password.unlink()
        # A server for nobody but itself makes the database.
        single = [postgres._binary("postgres"), "--single", "-D", str(data), "postgres"]
        subprocess.run(
            single, user=user, check=True, capture_output=True, cwd=volume, input=b"CREATE DATABASE sightline;\n"
        )
    here = ["-D", str(data), "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    return [postgres._binary("postgres"), *options, *here]
