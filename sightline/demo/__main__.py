"""Start the platform, run every step, stop it. Exit code 0 only if every answer is right."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import httpx
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from services.settings import Settings
from sightline.client import SightlineError
from sightline.demo.platform import running
from sightline.demo.stage import Stage, Step, Wrong
from sightline.demo.steps import STEPS


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sightline.demo", description=__doc__)
    parser.add_argument("--runtime", choices=("onnx", "triton"), default="onnx", help="where models run")
    options = parser.parse_args(arguments)
    console = Console(highlight=False, markup=False, emoji=False)
    try:
        failed = perform(console, Settings().models_dir, options.runtime)
    except Wrong as error:
        console.print(Panel(Text(str(error)), title="The demo stopped", title_align="left", border_style="red"))
        return 1

    if failed:
        console.print(Text(f"\n{failed} of {len(STEPS)} steps gave a wrong answer.", "bold red"))
        return 1

    console.print(
        Text(f"\nAll {len(STEPS)} steps gave the right answer, and the platform stopped cleanly.", "bold green")
    )
    return 0


def perform(console: Console, models: Path, runtime: str = "onnx") -> int:
    """Run every step on the models of a repository; how many gave a wrong answer. Raises :class:`Wrong`."""
    if not any(models.glob("*/*/card.json")):
        raise Wrong(f"There are no models in {models}: run `make setup`, or `sightline models pull`.")
    collection = photos()
    with ExitStack() as stack:
        begin = time.perf_counter()
        with console.status("Starting the platform"):
            url = stack.enter_context(running(models, runtime))
        what = "Sightline, with a tritonserver, runs at " if runtime == "triton" else "Sightline runs at "
        console.print(Text.assemble((what, "bold"), (url, "bold cyan"), (_since(begin), "dim")))
        http = stack.enter_context(httpx.Client(base_url=url, timeout=60.0, trust_env=False))
        stage = Stage(url, http, collection, console)
        return sum(not _passes(step, stage, number) for number, step in enumerate(STEPS, 1))


def photos() -> Path:
    """The photos that ship in scikit-image's wheel, found without importing it."""
    spec = find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise Wrong("The photos of scikit-image are not installed: run `make setup`, or `pip install scikit-image`.")
    return Path(spec.submodule_search_locations[0]) / "data"


def _passes(step: Step, stage: Stage, number: int) -> bool:
    stage.console.print(Text(f"\n{number}. {step.title}", "bold"))
    begin = time.perf_counter()
    try:
        step.run(stage)
    except (Wrong, SightlineError, httpx.HTTPError, LookupError, ValueError) as error:
        stage.say(Text(f"✗ {error or type(error).__name__}", "bold red"))
        return False
    stage.say(Text.assemble(("✓ right", "green"), (_since(begin), "dim")))
    return True


def _since(begin: float) -> str:
    return f"  {(time.perf_counter() - begin) * 1e3:.0f} ms"


if __name__ == "__main__":
    sys.exit(main())
