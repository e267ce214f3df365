"""Every example of ``examples/`` runs as its README says, against a real server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sightline.demo.__main__ import photos
from tests.support.serving import serving

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"

pytestmark = [pytest.mark.weights, pytest.mark.slow]


@pytest.fixture(scope="module")
def url(default_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    data = tmp_path_factory.mktemp("examples")
    (data / "models").symlink_to(default_models)
    with serving(data, "--port", "0") as server:
        yield server.info.url


def run(url: str, *argv: str) -> str:
    environment = {**os.environ, "SIGHTLINE_URL": url}
    done = subprocess.run(argv, cwd=EXAMPLES, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_readme_names_every_example() -> None:
    named = set(re.findall(r"^\| `([a-z_]+\.(?:py|sh))`", (EXAMPLES / "README.md").read_text(), re.MULTILINE))
    assert named == {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".sh")}


def test_curl_gets_the_same_answer_in_three_ways(url: str) -> None:
    out = run(url, "./curl.sh", str(photos() / "coffee.png"), "a cat,a cup of coffee")
    firsts = re.findall(r'"predictions":\[\{"label":"([^"]*)"', out)
    assert firsts == ["a cup of coffee"] * 3


def test_the_readme_shows_what_is_answered(url: str, tmp_path: Path) -> None:
    for name in ("chelsea.png", "coffee.png"):
        shutil.copy(photos() / name, tmp_path)
    readme = (ROOT / "README.md").read_text()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    asked = [text.replace("http://127.0.0.1:8000", url) for kind, text in blocks if "curl" in text]
    shown = [text for kind, text in blocks if kind == "json"]
    (place,) = (place for place, (kind, _) in enumerate(blocks) if kind == "python")
    program, printed = blocks[place][1], blocks[place + 1][1]

    assert len(asked) == len(shown) == 3
    for curl, answer in zip(asked, shown, strict=True):
        done = subprocess.run(["sh", "-c", curl], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert _rounded(json.loads(done.stdout)) == _rounded(json.loads(answer))
    environment = {**os.environ, "SIGHTLINE_URL": url}
    argv = [sys.executable, "-c", program]
    said = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    assert re.sub(r"\d\.\d+", "", said) == re.sub(r"\d\.\d+", "", printed)


def _rounded(value: object) -> object:
    """Scores to two digits and places to whole pixels: the last digits are the processor's."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return round(value, 2 if abs(value) <= 1 else 0) if isinstance(value, float) else value


def test_a_folder_is_sorted(url: str, tmp_path: Path) -> None:
    for name in ("chelsea.png", "coffee.png", "rocket.jpg"):
        shutil.copy(photos() / name, tmp_path)
    out = run(url, sys.executable, "classify_folder.py", str(tmp_path), "a cat", "a cup of coffee", "a rocket")
    found = dict(line.split(": ", 1) for line in out.splitlines())
    assert [found[label].split()[0] for label in found] == ["chelsea.png", "coffee.png", "rocket.jpg"]


def test_many_requests_at_once_are_all_answered(url: str) -> None:
    out = run(url, sys.executable, "many_at_once.py", str(photos() / "coffee.png"), "40", "a cat", "a cup of coffee")
    assert out.startswith("40 answers in ") and out.strip().endswith(": a cup of coffee")


def test_the_openai_client_ranks_texts_by_meaning(url: str) -> None:
    out = run(url, sys.executable, "openai_embeddings.py", "a kitten naps", "the cat is asleep", "stocks fell today")
    same, near, far = (float(line.split()[0]) for line in out.splitlines())
    assert same == pytest.approx(1, abs=1e-3) and near > far + 0.2


def test_the_triton_client_classifies_a_tensor(url: str) -> None:
    out = run(url, sys.executable, "triton_client.py", str(photos() / "coffee.png"))
    assert out.splitlines()[0].split(maxsplit=1)[1] == "espresso"
