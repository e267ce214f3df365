"""Published data: fetched with resume, checked, taken from where a person put it, or asked for in one message."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from services.datasets.package import Package
from services.errors import Problem
from services.evaluation.suites.fetching import bring
from services.evaluation.suites.preparing import prepare
from services.evaluation.suites.registry import read_suite
from services.settings import Settings

FILES: dict[str, bytes] = {"/set/train.zip": bytes(range(256)) * 800, "/set/train.txt": b"train.zip@a.png 0\n"}


@pytest.fixture
def published() -> Iterator[tuple[str, list[str | None]]]:
    """A server of :data:`FILES` that breaks off its first long answer; the ranges that were asked for."""
    asked: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            if path not in FILES or query != "token=1":
                self.send_error(403)
                return
            data, begin = FILES[path], 0
            asked.append(self.headers["range"])
            if self.headers["range"]:
                begin = int(self.headers["range"].removeprefix("bytes=").rstrip("-"))
            self.send_response(206 if begin else 200)
            self.send_header("content-length", str(len(data) - begin))
            self.end_headers()
            first_long = len(data) > 1000 and asked.count(None) == 1 and not begin
            self.wfile.write(data[begin : len(data) // 2] if first_long else data[begin:])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def nothing(*_: object) -> None:
    """Follows no progress."""


def test_a_broken_fetch_goes_on_where_it_stopped(published, tmp_path):
    base, asked = published
    [file] = bring(tmp_path, f"{base}/set", ["train.zip"], {}, "token=1", nothing)
    assert file.read_bytes() == FILES["/set/train.zip"]
    assert asked == [None, "bytes=102400-"]
    assert bring(tmp_path, "http://127.0.0.1:1", ["train.zip"], {}, None, nothing) == [file]  # no network needed


def test_what_cannot_be_fetched_is_listed_with_where_to_put_it(published, tmp_path):
    base, _ = published
    with pytest.raises(Problem) as caught:
        bring(tmp_path, f"{base}/set", ["train.txt", "train.zip"], {}, "token=secret", nothing)
    problem = caught.value
    assert problem.code == "suite-data-missing" and "403" in problem.detail
    assert f"{base}/set/train.txt, {base}/set/train.zip" in problem.remedy and str(tmp_path) in problem.remedy
    assert "secret" not in f"{problem.detail} {problem.remedy}"


def test_other_bytes_than_the_published_or_first_seen_are_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"right")
    right = hashlib.sha256(b"right").hexdigest()
    bring(tmp_path, "http://127.0.0.1:1", ["a.zip"], {"a.zip": right}, None, nothing)
    bring(tmp_path, "http://127.0.0.1:1", ["a.zip"], {}, None, nothing)
    (tmp_path / "a.zip").write_bytes(b"other")
    for hashes in ({"a.zip": right}, {}):
        with pytest.raises(Problem) as caught:
            bring(tmp_path, "http://127.0.0.1:1", ["a.zip"], hashes, None, nothing)
        assert caught.value.code == "suite-data-damaged"


SUITE = """
name: mine
title: two lists
address: http://127.0.0.1:1
datasets:
- name: shades
  task: classification
  metric: accuracy
  classes: [dark, light]
  source:
    kind: published
    folder: classification/shades
    layout: iris
    files:
      train: {index: train_images.txt, archives: [pictures.zip]}
      test: {index: val.txt, archives: [pictures.zip]}
"""


def published_by_hand(folder, train):
    with zipfile.ZipFile(folder / "pictures.zip", "w") as bundle:
        for name, shade in (("a", 10), ("b", 240), ("c", 20)):
            sink = io.BytesIO()
            Image.new("RGB", (8, 8), (shade, shade, shade)).save(sink, "PNG")
            bundle.writestr(f"{name}.png", sink.getvalue())
    (folder / "train_images.txt").write_text(train)
    (folder / "val.txt").write_text("pictures.zip@c.png 0\n")


def test_published_lists_become_a_package_with_the_suites_splits_and_classes(tmp_path):
    suite = read_suite(SUITE, "suites/mine.yaml", "mine")
    settings = Settings(data_dir=tmp_path)
    folder = settings.suites_dir / "mine" / "shades"
    with pytest.raises(Problem) as caught:
        prepare(suite, suite.datasets[0], settings, nothing)
    assert "classification/shades/pictures.zip" in caught.value.remedy and str(folder) in caught.value.remedy
    published_by_hand(folder, "pictures.zip@a.png 0\npictures.zip@b.png 1\n")
    material = prepare(suite, suite.datasets[0], settings, nothing)
    with Package(material.file) as package:
        assert package.classes == ["dark", "light"]
        assert [(stored.sample.split, stored.sample.labels) for stored in package.samples] == [
            ("test", (0,)), ("train", (0,)), ("train", (1,)),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("pictures.zip@b.png 2", "line 2: class index 2 is outside"),
        ("pictures.zip@b.png light", "line 2: 'light' is not a list"),
        ("pictures.zip@d.png 1", "line 2: 'pictures.zip@d.png' is not in"),
        ("pictures.zip@b.png 0,1", "several labels"),
    ],
)
def test_lists_that_the_suite_does_not_fit_are_refused_and_not_measured_in_part(tmp_path, line, words):
    suite = read_suite(SUITE, "suites/mine.yaml", "mine")
    settings = Settings(data_dir=tmp_path)
    folder = settings.suites_dir / "mine" / "shades"
    folder.mkdir(parents=True)
    published_by_hand(folder, f"pictures.zip@a.png 0\n{line}\n")
    with pytest.raises(Problem) as caught:
        prepare(suite, suite.datasets[0], settings, nothing)
    assert caught.value.code == "suite-labels" and words in caught.value.detail
    assert list((settings.cache_dir / "suites").glob("*.zip")) == []
