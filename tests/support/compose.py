"""The services of ``docker-compose.yml`` as processes of this machine, for machines without Docker.

What runs is what the file says: the commands, the variables, the secrets that each service is given and no others, the
configuration files, the checks of health, the order, the signals. Three things are translated: names of services to
this machine with a free port each, paths in containers to folders of the test, and programs of other projects' images
to those that are installed here.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support import compose_programs as programs
from tests.support.programs import program
from tests.support.serving import alive, children, command, eventually

ROOT = Path(__file__).parents[2]

NOT_HERE = {
    "dcgm-exporter": "needs a GPU, and its image",
    "grafana": "no package brings its server",
    "models": "a tool, not a service",
    "triton-gpu": "needs a GPU, and its image",
}
"""Services that cannot run as processes here, and why."""

PROFILES = "gpu,cpu,tools"


@cache
def configuration() -> dict[str, Any]:
    """What docker-compose makes of the file, with every profile. The same each time: not to be changed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SIGHTLINE_", "COMPOSE_"))}
    done = subprocess.run(
        [program("docker-compose"), "config"],
        cwd=ROOT,
        env={**environment, "COMPOSE_PROFILES": PROFILES},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    loaded = yaml.safe_load(done.stdout)
    assert isinstance(loaded, dict)
    return loaded


@dataclass(slots=True)
class Running:
    """One service that was started."""

    process: subprocess.Popen[bytes]
    log: Path
    environment: Mapping[str, str]
    stop_signal: signal.Signals = signal.SIGTERM
    grace: float = 10.0

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")[-6000:]

    def descendants(self) -> list[int]:
        found, todo = [], [self.process.pid]
        while todo:
            below = children(todo.pop())
            found += below
            todo += below
        return found


@dataclass(slots=True)
class Stack:
    """The services, in ``folder``. ``extra`` are further variables by service, ``edits`` changes to mounted files."""

    folder: Path
    extra: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    edits: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    services: dict[str, dict[str, Any]] = field(init=False)
    running: dict[str, Running] = field(default_factory=dict)
    _ports: dict[tuple[str, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.services = configuration()["services"]
        exposed = [(name, int(port)) for name, one in self.services.items() for port in one.get("expose", ())]
        with _reserved(len(exposed)) as ports:
            self._ports = dict(zip(exposed, ports, strict=True))
        subprocess.run([ROOT / "deploy/compose/make-secrets", self.folder / "made"], check=True, capture_output=True)

    @property
    def names(self) -> list[str]:
        """The services that run here, each after those that it needs."""
        ordered: list[str] = []

        def add(name: str) -> None:
            for needed in self.services[name].get("depends_on", {}):
                add(needed)
            if name not in ordered:
                ordered.append(name)

        for name in sorted(set(self.services) - set(NOT_HERE)):
            add(name)
        return ordered

    def url(self, service: str, port: int) -> str:
        return f"http://127.0.0.1:{self._ports[service, port]}"

    def volume(self, name: str) -> Path:
        path = self.folder / "volumes" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def secret(self, name: str) -> str:
        return (self.folder / "made" / name).read_text()

    # Running

    def start(self, name: str) -> Running:
        """Start a service, once those that it needs are healthy."""
        for needed in self.services[name].get("depends_on", {}):
            if needed not in self.running:
                self.start(needed)
            self.await_health(needed)
        service = self.services[name]
        argv = self.argv(name, service.get("command", []))
        environment = self.environment(name)
        log = self.folder / f"{name}.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                argv,
                env=environment,
                stdout=out,
                stderr=out,
                cwd=self.folder,
                start_new_session=True,
                user=programs.user_of(name),
            )
        self.running[name] = Running(
            process,
            log,
            environment,
            signal.Signals[service.get("stop_signal", "SIGTERM")],
            _seconds(service.get("stop_grace_period", "10s")),
        )
        return self.running[name]

    def run(self, name: str, arguments: Sequence[str]) -> str:
        """``docker compose run --rm NAME ARGUMENTS``: what it printed."""
        done = subprocess.run(
            self.argv(name, arguments), env=self.environment(name), capture_output=True, text=True, cwd=self.folder
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def argv(self, name: str, arguments: Sequence[str]) -> list[str]:
        """What to execute for a service that is given ``arguments``."""
        translated = [self._translated(name, argument) for argument in arguments]
        return programs.argv(name, translated, self.volume(name), self._own_port(name))

    def environment(self, name: str) -> dict[str, str]:
        service = self.services[name]
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("SIGHTLINE_", "PG"))}
        told = {**programs.image_environment(service), **(service.get("environment") or {})}
        made = {key: self._translated(name, str(value)) for key, value in told.items() if value is not None}
        folder = self._secrets(name)
        return {**inherited, **made, "SIGHTLINE_SECRETS_DIR": str(folder), **self.extra.get(name, {})}

    def await_health(self, name: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not self.healthy(name):
            if time.monotonic() > end:
                pytest.fail(f"{name} was not healthy within {seconds:g} s:\n{self.running[name].said}", pytrace=False)
            time.sleep(0.1)

    def healthy(self, name: str) -> bool:
        """Whether the service's own check of health says so. Fails the test when the service has ended."""
        running = self.running[name]
        code = running.process.poll()
        assert code is None, f"{name} ended with {code}:\n{running.said}"
        test = self.services[name]["healthcheck"]["test"]
        words = [self._translated(name, word) for word in test[1:]]
        if test[0] == "CMD-SHELL":
            words = shlex.split(words[0].partition("|")[0])
        match words:
            case ["python", "-I", _, "process", text]:
                # The probe would look at every process of the machine; in a container there are no others.
                return any(text in command(pid) for pid in running.descendants())
            case ["python", "-I", path, *rest]:
                return subprocess.run([sys.executable, "-I", path, *rest]).returncode == 0
            case ["wget" | "curl", *_, url]:
                return _ok(url)
            case ["valkey-cli", *_]:
                return _pongs(self._own_port(name))
            case ["pg_isready", *options]:
                return programs.postgres_is_ready(options, self._own_port(name))
        raise AssertionError(f"{name}: a check of health that this machine cannot do: {test}")

    def stop(self, names: Sequence[str]) -> dict[str, int]:
        """Stop services together, as ``docker compose stop`` does; their exit codes.

        Fails when the grace of one is not enough, or when it leaves a process behind.
        """
        families = {name: [self.running[name].process.pid, *self.running[name].descendants()] for name in names}
        for name in names:
            self.running[name].process.send_signal(self.running[name].stop_signal)
        began, codes = time.monotonic(), {}
        for name in names:
            running = self.running[name]
            try:
                codes[name] = running.process.wait(max(0.0, began + running.grace - time.monotonic()))
            except subprocess.TimeoutExpired:
                pytest.fail(f"{name} did not stop within its {running.grace:g} s:\n{running.said}", pytrace=False)
            eventually(lambda name=name: not any(alive(pid) for pid in families[name]), 5)  # type: ignore[misc]
            del self.running[name]
        return codes

    def close(self) -> None:
        """End whatever still runs."""
        for name in reversed(list(self.running)):
            running = self.running.pop(name)
            for pid in [*reversed(running.descendants()), running.process.pid]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            running.process.wait()

    # Translating

    def _own_port(self, name: str) -> int:
        return next((self._ports[name, int(port)] for port in self.services[name].get("expose", ())), 0)

    def _secrets(self, name: str) -> Path:
        """The folder of a service's secrets: those it is given, and no others."""
        folder = self.folder / "secrets" / name
        if not folder.exists():
            folder.mkdir(parents=True)
            for secret in self.services[name].get("secrets", ()):
                text = self._addresses(self.secret(secret["source"]))
                (folder / secret["source"]).write_text(text)
        return folder

    def _translated(self, name: str, text: str) -> str:
        """An argument, a variable or a file of a service, as it is right on this machine."""
        for inside, here in self._mounts(name):
            text = re.sub(rf"(?<![\w/.]){re.escape(inside)}(?![\w-])", str(here), text)
        text = self._addresses(text)
        for (service, port), here_port in self._ports.items():
            if service == name:
                text = re.sub(rf"\b(0\.0\.0\.0|127\.0\.0\.1|localhost):{port}\b", f"127.0.0.1:{here_port}", text)
                text = re.sub(rf"(?m)^(--(?:\w+-)?port=|port |){port}$", rf"\g<1>{here_port}", text)
        return text.replace("0.0.0.0", "127.0.0.1")

    def _addresses(self, text: str) -> str:
        for (service, port), here in self._ports.items():
            for name in (service, *self._aliases(service)):
                text = re.sub(rf"(?<![\w-]){re.escape(name)}:{port}\b", f"127.0.0.1:{here}", text)
        return text

    def _aliases(self, service: str) -> list[str]:
        """Other names of a service that runs here."""
        networks = self.services[service].get("networks") or {}
        if service in NOT_HERE or not isinstance(networks, dict):
            return []
        return [alias for one in networks.values() for alias in (one or {}).get("aliases", ())]

    def _mounts(self, name: str) -> list[tuple[str, Path]]:
        """Paths in the container and what they are here, the longest first."""
        found = {"/run/secrets": self._secrets(name), "/usr/local/lib/sightline": ROOT / "deploy/docker"}
        for volume in self.services[name].get("volumes", ()):
            source, inside, _ = volume.rsplit(":", 2)
            found[inside] = self._copied(name, Path(source), inside) if "/" in source else self.volume(source)
        return sorted(found.items(), key=lambda pair: -len(pair[0]))

    def _copied(self, name: str, source: Path, inside: str) -> Path:
        """A copy of a mounted file or folder, translated."""
        target = self.folder / "mounts" / name / inside.strip("/")
        if target.exists():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            target.touch()  # now it is a mount, and can be named in the file itself
            shutil.copy(source, target)
        for file in [target] if target.is_file() else [path for path in target.rglob("*") if path.is_file()]:
            text = self._translated(name, file.read_text())
            for before, after in self.edits.get(name, ()):
                text = text.replace(before, after)
            file.write_text(text)
        return target


@contextmanager
def _reserved(number: int) -> Iterator[list[int]]:
    """Free ports: held until the block ends, so that they are different ones."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        yield [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _seconds(text: str) -> float:
    minutes, _, seconds = text.rpartition("m")
    return float(minutes or 0) * 60 + float(seconds.removesuffix("s") or 0)


def _ok(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _pongs(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as stream:
            stream.sendall(b"PING\r\n")
            return stream.recv(64).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False
