"""Work done in a process of its own, so that what it imports does not stay in a process that lives for months.

``python -m sightline.launcher.aside MODULE:FUNCTION`` is that process: a new one and not a fork, which would copy the
locks of whatever threads there are.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module

from services.errors import Kind, Problem
from services.settings import Settings, child_environment


def aside(work: str, settings: Settings) -> bool:
    """What the function ``work`` (``module:name``) returns of ``settings``, or the :class:`Problem` that it raises."""
    command = [sys.executable, "-m", "sightline.launcher.aside", work]
    done = subprocess.run(command, env=child_environment(settings, {}, {}), stdout=subprocess.PIPE, check=False)

    # A child that was killed has said nothing; one that lives may have printed before its answer.
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    said = json.loads(lines[-1]) if lines else {"kind": "internal", "code": "bug", "detail": "A helper process died."}
    if "result" in said:
        return bool(said["result"])
    raise Problem(
        Kind(said["kind"]),
        said["code"],
        said.get("title") or "The start failed",
        said["detail"],
        pointer=said.get("pointer"),
        remedy=said.get("remedy"),
    )


def main(work: str) -> None:
    """Do ``work`` and print what came of it as a line of JSON."""
    answer: dict[str, object]
    try:
        module, _, name = work.partition(":")
        answer = {"result": getattr(import_module(module), name)(Settings())}
    except Problem as problem:
        fields = ("code", "title", "detail", "pointer", "remedy")
        answer = {"kind": problem.kind.value, **{field: getattr(problem, field) for field in fields}}
    except Exception as error:
        answer = {"kind": Kind.INTERNAL.value, "code": "bug", "detail": f"{type(error).__name__}: {error}"}
    print(f"\n{json.dumps(answer)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
