"""The command line says what it passes over in a folder, and what the model did not read of texts and labels."""

from __future__ import annotations

import base64
import codecs
import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sightline.cli.classify import split_labels
from sightline.cli.input_images import batches
from sightline.cli.main import main
from sightline.cli.skipped import Skipped

Run = Callable[..., tuple[int, str, str]]

CUT = {
    "truncated": [{"index": 0, "tokens": 310, "kept": 256, "templates": [0]}],
    "notes": [{"code": "labels-alike", "detail": "Labels 0 and 1 are the same text.", "indices": [0, 1]}],
}


class Platform(BaseHTTPRequestHandler):
    """Answers whatever it is asked, and says of texts with ``long`` in them that they were cut."""

    requests: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append(body)
        texts = body.get("labels") or body.get("input") or []
        if self.path == "/v1/embeddings":
            count = len(body.get("images") or texts)
            vector = base64.b64encode(np.ones(4, "<f4").tobytes()).decode()
            answer = {"model": "m", "data": [{"index": place, "embedding": vector} for place in range(count)]}
        else:
            guess = {"label": "a", "score": 0.5}
            results = [{"index": place, "width": 2, "height": 1, "predictions": [guess]}
                       for place in range(len(body["images"]))]  # fmt: skip
            answer = {"model": "m", "version": "1", "results": results}
        if any("long" in text for text in texts):
            answer |= CUT
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    handler = type("Handler", (Platform,), {"requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("SIGHTLINE_URL", f"http://127.0.0.1:{server.server_port}")
    yield handler.requests
    server.shutdown()
    server.server_close()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.setenv("SIGHTLINE_DATA_DIR", str(tmp_path / "data"))

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sightline", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of every suffix that is decoded, and all else that people have in such a folder."""
    photos = tmp_path / "photos"
    (photos / "deep" / "__MACOSX").mkdir(parents=True)
    for name in ("a.jpg", "b.JFIF", "c.tif", "d.TIFF", "e.avif", "f.jpe", "deep/g.webp"):
        (photos / name).write_bytes(b"picture")
    for name in ("1.heic", "2.HEIC", "3.heif", "4.heic", "5.heic", "x.psd", ".DS_Store", "deep/__MACOSX/._a.jpg"):
        (photos / name).write_bytes(b"no picture")
    (photos / "notes.txt").write_text("no picture")
    (photos / "gone.png").symlink_to(photos / "nowhere.png")
    (photos / "elsewhere").symlink_to(tmp_path)
    return photos


EXPECTED = [
    "5 skipped: HEIC is not decoded; convert it to JPEG or PNG",
    "2 skipped: files of an operating system",
    "1 skipped: Photoshop is not decoded; convert it to JPEG or PNG",
    "1 skipped: no picture by its name",
    "1 skipped: links that lead nowhere",
    "1 skipped: links to folders are not followed",
]


def test_everything_in_a_folder_is_sent_or_named(folder: Path) -> None:
    skipped = Skipped()
    sent = [Path(image.name) for batch in batches([str(folder)], skipped) for image in batch]
    assert len(sent) == 7
    named = sum(group.count for group in skipped.groups.values())
    entries = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    assert len(sent) + named == len(entries)
    assert sorted(line.partition(", as ")[0] for line in skipped.lines()) == sorted(EXPECTED)
    assert all(len(group.examples) <= 3 for group in skipped.groups.values())


@pytest.mark.parametrize("arguments", [("classify", "--labels", "a,b"), ("embed", "--image")])
@pytest.mark.parametrize("json_asked", [False, True])
def test_commands_tell_what_they_skip_beside_what_they_answer(
    run: Run, asked: list[dict[str, Any]], folder: Path, arguments: tuple[str, ...], json_asked: bool
) -> None:
    command, *options = arguments
    given = [str(folder), *options] if command == "classify" else [*options, str(folder)]
    code, out, err = run(command, *given, *(["--json"] if json_asked else []))
    assert code == 0 and sum(len(body["images"]) for body in asked) == 7
    assert all(line in err for line in EXPECTED) and "skipped" not in out


def test_a_folder_of_which_nothing_is_a_picture_says_what_is_in_it(
    run: Run, asked: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.heic").write_bytes(b"x")
    code, _, err = run("classify", str(tmp_path / "photos"), "--labels", "a,b", "--json")
    assert code == 2 and "1 skipped: HEIC is not decoded" in err and asked == []


def test_a_folder_is_no_input_of_a_batch_and_the_remedy_is_named(run: Run, tmp_path: Path) -> None:
    code, _, err = run("jobs", "submit", "batch", "--input", str(tmp_path), "--json")
    assert code == 2 and "datasets upload" in err and "input=dataset:NAME" in err


def test_cut_labels_are_told_once_however_many_batches(run: Run, asked: list[dict[str, Any]], tmp_path: Path) -> None:
    for index in range(20):
        (tmp_path / f"{index}.jpg").write_bytes(b"x")
    code, out, err = run("classify", str(tmp_path), "--labels", "long one,other", "--json")
    assert code == 0 and len(asked) == 2 and "truncate" not in asked[0]
    assert err.count("label 0 ('long one') was cut: it has 310 tokens, of which the model read 256.") == 1
    assert err.count("Labels 0 and 1 are the same text.") == 1
    assert all(json.loads(line)["truncated"][0]["kept"] == 256 for line in out.splitlines())


def test_cut_texts_are_told_and_can_be_refused(run: Run, asked: list[dict[str, Any]]) -> None:
    code, out, err = run("embed", "a long text", "--json")
    assert code == 0 and "text 0 ('a long text') was cut" in err
    assert json.loads(out)["truncated"][0]["tokens"] == 310
    run("embed", "short", "--no-truncate")
    assert asked[-1]["truncate"] is False
    code, out, err = run("embed", "short", "--json")
    assert "truncated" not in json.loads(out) and err == ""


LABELS = "a cat\r\n\r\n  a dog, a big one \r\ncafé\r\n"


@pytest.mark.parametrize(
    "content",
    [
        LABELS.encode(),
        codecs.BOM_UTF8 + LABELS.encode(),
        LABELS.encode("utf-16"),
        codecs.BOM_UTF16_BE + LABELS.encode("utf-16-be"),
        LABELS.encode("utf-32"),
        LABELS.replace("\r\n", "\n").encode(),
        LABELS.replace("\r\n", "\r").encode(),
        LABELS.rstrip().encode(),
    ],
    ids=["crlf", "mark", "utf-16", "utf-16-be", "utf-32", "lf", "cr", "no end"],
)
def test_a_label_file_of_any_editor_has_the_same_labels(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "labels.txt").write_bytes(content)
    assert split_labels([f"@{tmp_path / 'labels.txt'}"]) == ["a cat", "a dog, a big one", "café"]


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"\x1f\x8b\x08\0", "gzip"), ("a\nb".encode("utf-16-le"), "UTF-16"), (b"caf\xe9\n", "byte 3 is not UTF-8")],
)
def test_a_label_file_that_is_no_text_is_named(run: Run, tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "labels.txt").write_bytes(content)
    code, _, err = run("classify", "x.jpg", "--labels", f"@{tmp_path / 'labels.txt'}", "--json")
    assert code == 2 and what in err
