"""Answers of two versions are told apart by all but ids and times; a walk names every file that a request passes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from speed.against.answers import differences, kind_of
from speed.against.lines import code_lines
from speed.against.questions import Pictures, Question, questions
from speed.against.surface import missing
from speed.walk import Walk, room, visits, walk

ASKED = Question("a job", "GET", "/v1/jobs/x")


def answer(body: str, status: int = 200, **headers: str) -> httpx.Response:
    return httpx.Response(status, content=body.encode(), headers={"content-type": "application/json", **headers})


def kind(old: httpx.Response, new: httpx.Response) -> str:
    return kind_of(list(differences(ASKED, old, new)))


def test_ids_and_times_are_no_differences() -> None:
    one = '{"id":"job_01M8GSSSC3A21KVNRMH0QDS5D7","created_at":1.5,"request_id":"a","state":"queued"}'
    other = '{"id":"job_01M8GSSSC3A21KVNRMH0QDS5D8","created_at":2e9,"request_id":"b","state":"queued"}'
    assert kind(answer(one), answer(other)) == "same"


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ('{"score":0.25,"label":"a"}', "same"),
        ('{"score":0.25,"label":"a","more":1}', "more"),
        ('{"score":0.25000000000000006,"label":"a"}', "other"),
        ('{"score":0.25}', "other"),
        ('{"score":"0.25","label":"a"}', "other"),
    ],
)
def test_the_last_bit_of_a_number_and_every_field_count(new: str, expected: str) -> None:
    assert kind(answer('{"score":0.25,"label":"a"}'), answer(new)) == expected


def test_only_who_made_a_model_and_the_words_of_a_question_that_says_so_may_change() -> None:
    old = answer('{"card":{"note":"made by job job_01M8GSSSC3A21KVNRMH0QDS5D7","title":"a"},"detail":"x","code":"y"}')
    assert kind(old, answer('{"card":{"note":"","title":"a"},"detail":"x","code":"y"}')) == "meant"
    assert kind(old, answer('{"card":{"note":"","title":"b"},"detail":"x","code":"y"}')) == "other"
    worded = replace(ASKED, meant="a reason")
    for new, expected in (('{"detail":"z","code":"y"}', "meant"), ('{"detail":"x","code":"z"}', "other")):
        found = differences(worded, answer('{"detail":"x","code":"y"}'), answer(new))
        assert kind_of(list(found)) == expected


def test_a_status_and_a_header_count() -> None:
    assert kind(answer("{}"), answer("{}", 201)) == "other"
    assert kind(answer("{}", allow="GET"), answer("{}")) == "other"
    assert kind(answer("{}"), answer("{}", allow="GET")) == "more"


def test_what_is_gone_from_the_surface_is_named() -> None:
    before = {"commands": {"sightline serve": ["--port", "--host"]}, "settings": {"port": "8000"}}
    after = {"commands": {"sightline serve": ["--port"], "sightline new": []}, "settings": {"port": "8001"}}
    assert list(missing(before, after)) == [
        "gone: /commands/sightline serve: --host",
        "other: /settings/port is 8001 instead of 8000",
    ]


def test_a_room_that_is_left_and_entered_again_is_visited_twice() -> None:
    seen = Walk(files=["a/x.py", "a/y.py", "b/z.py", "a/w.py"], steps=[("", "a/x.py"), ("a/x.py", "b/z.py")])
    assert visits(seen.files) == [("a", ["x.py", "y.py"]), ("b", ["z.py"]), ("a", ["w.py"])]
    assert seen.entries("b") == 1


def test_an_image_request_is_watched_from_the_socket_to_the_answer(tmp_path: Path) -> None:
    seen = walk(tmp_path)
    assert room(seen.files[0]) == "gateway"
    rooms = {room(file) for file in seen.files}
    assert {"gateway/middleware", "gateway/tasks", "services/media", "services/encoding", "services/runtime"} <= rooms


@pytest.mark.parametrize("labels", [None, ["a cat", "a dog"]])
def test_an_image_request_passes_no_more_files_than_the_map_says(tmp_path: Path, labels: list[str] | None) -> None:
    """What is handed the picture is what has to be read to follow it; the others count, bound, guard and find.

    Labels of one's own pass one file more, which tells of those that the model cuts or cannot read.
    """
    seen = walk(tmp_path, labels)
    assert len(seen.carriers) <= 25, seen.carriers
    assert len(seen.files) <= (41 if labels is None else 46), seen.files


def test_every_question_has_a_name_of_its_own() -> None:
    from speed.against.__main__ import photos

    names = [one.what for one in questions(Pictures(photos()), jobs=True)]
    assert len(names) > 200 and len(set(names)) == len(names)


def test_only_lines_with_code_are_counted() -> None:
    source = "\n".join(
        [
            '"""Doc,',
            "",
            'of three."""',
            "# a comment",
            "X = 1  # one",
            '"""About X."""',
            "def f():",
            '    return """a',
            'b"""',
        ]
    )
    assert code_lines(source) == 4
