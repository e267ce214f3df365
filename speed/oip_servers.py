"""The servers that the Open Inference Protocol is asked of over gRPC: tritonserver, and MLServer beside it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from speed.servers import ROOT, START_SECONDS, Setting, free_port

MLSERVER = Path(__file__).parent / "peers" / "mlserver"
MLSERVER_ENVIRONMENT = ROOT / ".venv-mlserver"


@contextmanager
def tritonserver(data: Path, log: Path) -> Iterator[tuple[int, str]]:
    """``sightline triton up`` over a data folder: process id, and gRPC address once the model answers."""
    ports = {name: free_port() for name in ("port", "grpc-port", "metrics-port", "watchdog-port")}
    argv = [sys.executable, "-m", "sightline", "triton", "up", "--cpu", "--data-dir", str(data)]
    argv += [word for name, port in ports.items() for word in (f"--{name}", str(port))]
    with _answering(argv, ports["grpc-port"], log, ROOT, {**os.environ, "PYTHONPATH": str(ROOT)}) as started:
        yield started


@contextmanager
def mlserver(setting: Setting, log: Path) -> Iterator[tuple[int, str]]:
    """MLServer with the network, in an environment of its own that is made when it is first asked for."""
    program = _mlserver()
    folder = setting.folder / "mlserver"
    folder.mkdir()
    shutil.copy(MLSERVER / "model.py", folder)
    model = {"name": "tiny", "implementation": "model.Network", "parameters": {"uri": str(setting.network)}}
    (folder / "model-settings.json").write_text(json.dumps(model))
    http, grpc, metrics = free_port(), free_port(), free_port()
    # No worker processes of its own: with them version 1.7.1 does not start beside a current uvloop.
    settings = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics}
    (folder / "settings.json").write_text(json.dumps(settings | {"parallel_workers": 0, "debug": False}))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with _answering([str(program), "start", str(folder)], grpc, log, folder, environment) as started:
        yield started


def _mlserver() -> Path:
    """The program, installed if it is not or if its requirements have changed."""
    requirements, stamp = MLSERVER / "requirements.txt", MLSERVER_ENVIRONMENT / ".installed"
    if not stamp.exists() or stamp.read_text() != requirements.read_text():
        print(f"installing MLServer into {MLSERVER_ENVIRONMENT.name}", file=sys.stderr)
        shutil.rmtree(MLSERVER_ENVIRONMENT, ignore_errors=True)
        subprocess.run([_older_python(), "-m", "venv", MLSERVER_ENVIRONMENT], check=True)
        pip = [MLSERVER_ENVIRONMENT / "bin/python", "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--requirement", requirements], check=True)
        stamp.write_text(requirements.read_text())
    return MLSERVER_ENVIRONMENT / "bin/mlserver"


def _older_python() -> str:
    """A Python that MLServer can be installed with: it takes none from 3.13 on. Raises ``SystemExit``."""
    fits = "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))"
    for program in (sys.executable, "python3.12", "python3.11"):
        found = shutil.which(program)
        if found is not None and subprocess.run([found, "-c", fits], stderr=subprocess.DEVNULL).returncode == 0:
            return found
    raise SystemExit("MLServer, which is measured beside Triton, needs Python 3.11 or 3.12: install one of them")


@contextmanager
def _answering(
    argv: Sequence[str], port: int, log: Path, folder: Path, environment: Mapping[str, str]
) -> Iterator[tuple[int, str]]:
    """Start, wait until the network answers on the gRPC ``port``, and stop afterwards."""
    from tritonclient.grpc import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    with log.open("wb") as out:
        process = subprocess.Popen(argv, cwd=folder, env=environment, stdout=out, stderr=out)
    address = f"127.0.0.1:{port}"
    try:
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                with InferenceServerClient(address) as client:
                    if client.is_model_ready("tiny"):
                        break
            except InferenceServerException:
                pass
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{argv[0]} does not serve:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.2)
        yield process.pid, address
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
