"""The client's and the command's detection and grounding, against a real server: they say what the API says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from services.settings import Settings
from sightline import Client
from sightline.cli.main import app as command
from sightline.client import APIError, Example
from tests.support import tiny_detectors, tiny_models
from tests.support.server import serving
from tests.support.tiny_detectors import png, quarters

WITH_KIND = """
from services.detection import kinds
from tests.support.tiny_detectors import KIND
kinds.KINDS["quarters"] = KIND
"""
CORNERS = quarters((255, 0, 0), (0, 255, 0), (0, 0, 255), "black", size=(100, 60))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("detect")
    settings = Settings(data_dir=folder / "data", log_level="warning", default_detector="tiny-open")
    settings.models_dir.mkdir(parents=True)
    tiny_models.add_text_encoder(settings.models_dir)
    tiny_detectors.add_open(settings.models_dir)
    tiny_detectors.add_closed(settings.models_dir)
    with serving(settings, folder, wrapper=WITH_KIND) as server:
        yield server.url


def said(url: str, *arguments: str, code: int = 0) -> str:
    outcome = CliRunner().invoke(command, [*arguments, "--url", url])
    assert outcome.exit_code == code, outcome.output
    return outcome.output


def refused(url: str, *arguments: str) -> str:
    """What a wrong command line is told, without the frame around it."""
    return re.sub(r"[\s│─╭╮╰╯]+", " ", said(url, *arguments, code=2))


@pytest.fixture
def photo(tmp_path: Path) -> str:
    file = tmp_path / "corners.png"
    file.write_bytes(png(CORNERS))
    return str(file)


def test_the_client_gives_typed_results(url: str, photo: str) -> None:
    with Client(url) as client:
        answer = client.detect([photo, CORNERS], ["red", "a dove"], negative_labels=["blue"], render=True)
        assert (answer.model, len(answer), answer.usage["proposals"]) == ("tiny-open", 2, 8)
        first = answer[0]
        assert [(one.label, one.box) for one in first.detections] == [("red", (0, 0, 50, 30))]
        assert first.presence["red"] > 0.9 > first.presence["a dove"]
        assert first.rendered is not None and first.rendered.startswith(b"\x89PNG")
        shown = client.detect(photo, examples=[Example("it", (0, 0, 50, 30), CORNERS)])
        assert [one.label for one in shown[0].detections] == ["it"]
        each = client.detect([photo, photo], labels_per_image=[["red"], ["blue"]])
        assert [result.detections[0].label for result in each] == ["red", "blue"]
        grounded = client.ground(photo, "a red hat and a blue coat")
        assert [(phrase.text, phrase.span, phrase.boxes[0].box) for phrase in grounded[0].phrases] == [
            ("a red hat", (0, 9), (0, 0, 50, 30)),
            ("a blue coat", (14, 25), (0, 30, 50, 60)),
        ]
        two = client.ground([photo, photo], ["a red hat", "a green hat"], phrases=["hat"], threshold=0)
        assert [result.caption for result in two] == ["a red hat", "a green hat"]
        with pytest.raises(APIError, match="no area"):
            client.detect(photo, examples=[Example("it", (0, 0, 0, 0))])


def test_detect_prints_a_table_or_lines(url: str, photo: str) -> None:
    shown = said(url, "detect", photo, "--labels", "red,a dove")
    assert "red" in shown and "1.00" in shown and "0 0 50 30" in shown and "a dove 0%" in shown
    line = json.loads(said(url, "detect", photo, "--labels", "red,a dove", "--json"))
    assert line["detections"] == [{"label": "red", "score": 1.0, "box": [0, 0, 50, 30]}]
    assert (line["image"], line["model"]) == (photo, "tiny-open")
    closed = json.loads(said(url, "detect", photo, "--model", "tiny-closed", "--json", "--threshold", "0.55"))
    assert sorted(one["label"] for one in closed["detections"]) == ["blue", "green", "red"]
    shown = said(url, "detect", photo, "--example", "it=0,0,50,30@" + photo, "--max-detections", "1")
    assert "it" in shown
    assert "LABEL=X0,Y0,X1,Y1" in refused(url, "detect", photo, "--example", "it=0,0")


def test_boxes_are_drawn_into_copies(url: str, photo: str, tmp_path: Path) -> None:
    said(url, "detect", photo, "--labels", "red", "-o", str(tmp_path / "one.jpg"))
    with Image.open(tmp_path / "one.jpg") as drawn:
        assert (drawn.format, drawn.size) == ("JPEG", (100, 60))
    shown = said(url, "ground", photo, photo, "--caption", "a red hat", "-o", str(tmp_path / "many"))
    assert "a red hat" in shown
    assert [file.name for file in sorted((tmp_path / "many").iterdir())] == ["0000-corners.png", "0001-corners.png"]
    assert "name a folder" in refused(url, "detect", photo, photo, "-o", "x.png")


def test_ground_says_what_is_not_there(url: str, photo: str) -> None:
    shown = said(url, "ground", photo, "--caption", "a white dove on a red roof")
    assert "not found" in shown and "a red roof" in shown
    line = json.loads(said(url, "ground", photo, "--caption", "a dove, a red roof", "--phrase", "red roof", "--json"))
    assert [(phrase["text"], phrase["span"]) for phrase in line["phrases"]] == [("red roof", [10, 18])]


def test_a_refused_picture_does_not_take_the_others(url: str, photo: str, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"bad")
    lines = said(url, "detect", str(bad), photo, "--labels", "red", "--json", code=1).splitlines()
    assert ["error" in json.loads(line) for line in lines] == [True, False]
