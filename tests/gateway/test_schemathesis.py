"""Requests made from the OpenAPI document, right and wrong: never a 5xx, never a status or body it does not promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.settings import Settings
from tests.support import tiny_detectors
from tests.support.server import serving

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_answers_are_what_the_openapi_document_promises(settings: Settings, repository: Path, tmp_path: Path) -> None:
    settings = settings.model_copy(
        update={
            "body_timeout": 3.0,
            "default_classifier": "tiny-classifier",
            "default_text_encoder": "tiny-text",
            "default_detector": "tiny-closed",
        }
    )
    tiny_detectors.add_closed(repository)
    with serving(settings, tmp_path) as server:
        command = [
            str(Path(sys.executable).with_name("schemathesis")),
            "--no-color",
            "run",
            f"{server.url}/openapi.json",
            "--phases=examples,coverage,fuzzing",
            f"--checks={','.join(CHECKS)}",
            "--max-examples=3",
            "--seed=1",
            "--no-shrink",
            "--max-failures=5",
            "--max-response-time=10",
            "--suppress-health-check=all",
            "--warnings=off",
        ]
        # Loading and unloading change what the other requests find, and "is it ready?" is answered with a 503 by its
        # protocol: they have tests of their own.
        command += ["--exclude-path-regex=/(load|unload|ready)$"]
        environment = {**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path / "hypothesis")}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, _short(done.stdout) + done.stderr[-2000:] + server.said()[-2000:]
        assert server.workers["w0"].poll() is None


def _short(text: str) -> str:
    """The end of a report, without the megabytes that a request may have."""
    return "\n".join(line[:300] for line in text.splitlines())[-8000:]
