"""Work done in a child process, so that what it imports does not stay in a process that lives for months."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from services.errors import Kind, Problem


def aside(work: Callable[[], bool]) -> bool:
    """What ``work`` returns, or the :class:`Problem` that it raises. For a process without threads: it is forked."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        answer: dict[str, object]
        try:
            answer = {"result": work()}
        except Problem as problem:
            fields = ("code", "title", "detail", "pointer", "remedy")
            answer = {"kind": problem.kind.value, **{name: getattr(problem, name) for name in fields}}
        except BaseException as error:
            answer = {"kind": Kind.INTERNAL.value, "code": "bug", "detail": f"{type(error).__name__}: {error}"}
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    # A child that was killed has said nothing.
    said = json.loads(data or '{"kind": "internal", "code": "bug", "detail": "A helper process died."}')
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
