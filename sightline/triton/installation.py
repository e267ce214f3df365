"""Where a tritonserver is, what it has, and what its processes need around them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from services.errors import Kind, Problem
from services.settings import Settings

CONTAINER = Path("/opt/tritonserver/bin/tritonserver")
CHECKOUT = Path(__file__).parents[2]
ENVIRONMENT = ".venv-triton"
"""Where `make setup` puts one."""

ENGINE = "onnxruntime"
_MODEL = f"""\
# Triton's interpreter does not look at PYTHONPATH, and would look where the server was started.
import sys

sys.path[:] = [place for place in sys.path if place]
sys.path.append({str(CHECKOUT)!r})
from sightline.triton.model import TritonPythonModel
"""
_QUESTION = (
    "import json, sysconfig as s; v = s.get_config_vars(); "
    "print(json.dumps([s.get_path('purelib'), v['py_version_short'], v.get('INSTSONAME') or '', "
    "[v.get('LIBDIR') or '', (v.get('LIBDIR') or '') + '/' + (v.get('MULTIARCH') or '')]]))"
)
"""Asked of an environment's Python: its packages, its version, its shared library, and where that may be."""


@dataclass(frozen=True, slots=True)
class Installation:
    """One tritonserver. ``backends`` are its own; ``stub`` runs models in Python.

    ``environment`` is what its processes need among their variables.
    """

    binary: Path
    backends: Path
    stub: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def native(self) -> bool:
        """Whether it has the engine itself; otherwise models run in Python."""
        return (self.backends / ENGINE / f"libtriton_{ENGINE}.so").is_file()

    def backend_directory(self, made: Path) -> Path:
        """The folder of backends for it to use: its own if it is native, else one made at ``made``.

        Copies, since Triton refuses a library that a link leads to. What is there and right is left alone.
        """
        if self.native:
            return self.backends

        assert self.stub is not None
        sources = [path for path in (self.backends / "python").iterdir() if path.is_file()]
        wanted = {f"python/{path.name}": path.read_bytes() for path in [*sources, self.stub]}
        wanted[f"{ENGINE}/model.py"] = _MODEL.encode()
        for name, content in wanted.items():
            target = made / name
            if not target.is_file() or target.read_bytes() != content:
                target.parent.mkdir(parents=True, exist_ok=True)
                fresh = target.with_name(f".{target.name}")
                fresh.write_bytes(content)
                fresh.chmod(0o755)
                fresh.replace(target)

        return made


def find(settings: Settings) -> Installation:
    """The tritonserver to use: the one that ``settings`` names, else the first of the usual places that has one.

    Raises ``triton-missing`` and ``triton-unusable``.
    """
    if settings.triton_server is not None:
        return _at(settings.triton_server.expanduser())

    for place in _places():
        if place.exists():
            return _at(place)

    raise Problem(
        Kind.UNAVAILABLE,
        "triton-missing",
        "There is no tritonserver on this machine",
        f"Looked on the PATH, at {CONTAINER} and at {CHECKOUT / ENVIRONMENT}.",
        remedy="In a checkout: make setup. Elsewhere: python3 -m venv triton && triton/bin/pip install --no-deps "
        "--requirement deploy/triton/requirements.txt, and SIGHTLINE_TRITON_SERVER=$PWD/triton. "
        "Or use NVIDIA's container, as docker-compose.yml does.",
    )


def _places() -> Iterator[Path]:
    on_path = shutil.which("tritonserver")
    if on_path is not None:
        yield Path(on_path)
    yield CONTAINER
    yield CHECKOUT / ENVIRONMENT


def _at(place: Path) -> Installation:
    if place.is_file():
        return _of_binary(place.resolve())
    python = place / "bin" / "python"
    if not python.is_file():
        raise _unusable(
            f"{place} is neither a tritonserver nor a virtual environment.", "Correct SIGHTLINE_TRITON_SERVER."
        )
    return _of_environment(place, python)


def _of_binary(binary: Path) -> Installation:
    """A server in NVIDIA's layout: ``bin/tritonserver`` and ``backends`` side by side."""
    found = Installation(binary, binary.parents[1] / "backends")
    if not found.native:
        raise _unusable(
            f"{binary} has no {ENGINE} backend in {found.backends}.",
            "Name a virtual environment with nvidia-pytriton instead (SIGHTLINE_TRITON_SERVER).",
        )
    return found


def _of_environment(folder: Path, python: Path) -> Installation:
    """nvidia-pytriton's wheel: the server, its Python backend, and a stub for each version of Python."""
    done = subprocess.run([python, "-I", "-c", _QUESTION], capture_output=True, text=True)
    if done.returncode != 0:
        raise _unusable(f"{python} does not run: {done.stderr.strip()[-300:]}", f"Remove {folder} and make it again.")

    packages, version, library, folders = json.loads(done.stdout)
    server = Path(packages) / "pytriton" / "tritonserver"
    binary = server / "bin" / "tritonserver"
    if not binary.is_file():
        raise _unusable(f"{folder} has no nvidia-pytriton.", f"{python} -m pip install --no-deps nvidia-pytriton")

    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        there = sorted((path.name for path in stub.parents[1].iterdir()), key=lambda name: int(name.partition(".")[2]))
        raise _unusable(
            f"nvidia-pytriton runs models with Python {there[0]} to {there[-1]}, {folder} has {version}.",
            "Make the environment with one of those.",
        )

    # The stub must load the library of this very Python: beside another one's modules it breaks in strange places.
    shared = next(
        (place for place in folders if library.endswith((".so", ".so.1.0")) and (Path(place) / library).exists()), None
    )
    if shared is None:
        raise _unusable(
            f"The Python of {folder} has no shared library ({library or 'none was built'}).",
            f"Debian, Ubuntu: apt-get install libpython{version}. pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared.",
        )

    environment = {
        "PATH": os.pathsep.join([str(folder / "bin"), os.environ.get("PATH", os.defpath)]),
        "LD_LIBRARY_PATH": os.pathsep.join([shared, str(Path(packages) / "nvidia_pytriton.libs")]),
    }
    return Installation(binary, server / "backends", stub, environment)


def _unusable(detail: str, remedy: str) -> Problem:
    return Problem(
        Kind.UNAVAILABLE, "triton-unusable", "The tritonserver of this machine cannot be used", detail, remedy=remedy
    )
