"""Ask two checkouts the same, and compare status, headers and bytes; ids and times are masked, nothing else."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from speed.against.checkout import Checkout
from speed.against.data import unpacked
from speed.against.questions import Pictures, Question, questions

JOB_SECONDS = 600.0
ENDED = ("succeeded", "failed", "cancelled")

_MASKS = (
    (re.compile(rb"(job|art|ds|key|del)_[0-9A-Z]{26}"), rb"\1_ID"),
    (re.compile(rb'"request_id":\s*"[^"]*"'), b'"request_id":"ID"'),
    (re.compile(rb'"((?:[a-z_]+_)?(?:at|seconds?|ns)|created|time)":\s*[0-9.e+-]+'), rb'"\1":0'),
    (re.compile(rb'"statistics":\s*\{[^}]*\}'), b'"statistics":{}'),
    (re.compile(rb"127\.0\.0\.1:[0-9]+"), b"HOST"),
)
_STORED = re.compile(rb'"(sha256|etag)":\s*"[0-9a-f]{64}"|"size":\s*[0-9]+')
"""Of artifacts, some of which hold ids and times themselves."""

_BATCHES = re.compile(rb'"(last_inference|execution_count)":[0-9]+|"batch_stats":\[.*?\]')
"""When a model last ran, and what was joined on its way, which is up to the moment."""

_CSV_SECONDS = re.compile(rb",[0-9.]+,([^,\n]*)$", re.MULTILINE)
_WORDS = re.compile(r"/detail|/remedy|/error/message|/model_stats/[0-9]+/inference_(stats/[a-z_]+/)?count")
"""Where an answer may be other when its question says why."""

_LENGTHS = {"content-length", "date", "etag"}


@dataclass(slots=True)
class Side:
    """One platform that is asked."""

    url: str
    keys: dict[str, str]
    kept: dict[str, str] = field(default_factory=dict)

    def ask(self, question: Question) -> httpx.Response:
        """The answer; that of a job when it has ended."""
        answer = self._send(question)
        if question.keep and answer.is_success:
            self.kept[question.keep] = answer.json()["id"]
        end = time.monotonic() + JOB_SECONDS
        while question.follow and answer.is_success and answer.json()["state"] not in ENDED:
            assert time.monotonic() < end, f"{question.what}: {answer.text[:500]}"
            time.sleep(0.2)
            answer = self._send(Question(question.what, "GET", f"/v1/jobs/{self.kept[question.keep]}"))
        return answer

    def _send(self, question: Question) -> httpx.Response:
        headers = dict(question.headers)
        if question.key:
            headers["Authorization"] = f"Bearer {self.keys.get(question.key, 'sl_nobody')}"
        content = question.content
        if question.json is not None:
            content = self._filled(json.dumps(question.json)).encode()
            headers.setdefault("Content-Type", "application/json")
        with httpx.Client(base_url=self.url, timeout=120, trust_env=False) as http:
            return http.request(
                question.method, self._filled(question.path), content=content, files=question.files, headers=headers
            )

    def _filled(self, text: str) -> str:
        for name, value in self.kept.items():
            text = text.replace(f"{{{name}}}", value)
        return text


def compare(
    old: Checkout, new: Checkout, models: Path, photos: Path, folder: Path, *, jobs: bool, triton: bool, only: str = ""
) -> int:
    """Print what differs, and a count; how many answers are other than before. ``folder`` is for the servers' data.

    The old checkout runs twice: where it contradicts itself, the new one cannot be told from it.
    """
    kinds: Counter[str] = Counter()
    statuses: Counter[int] = Counter()
    environment = {"SIGHTLINE_JOBS": "true" if jobs else "false"}
    with ExitStack() as stack:
        sides = []
        for name, checkout in (("old", old), ("new", new), ("old-again", old)):
            data, keys = unpacked(folder / name)
            link_models(models, data / "models")
            servers = stack.enter_context(checkout.triton(data, folder / f"{name}.triton")) if triton else {}
            serving = stack.enter_context(checkout.serving(data, folder / f"{name}.log", **environment, **servers))
            sides.append(Side(serving.url, keys))
        for question in questions(Pictures(photos), jobs=jobs):
            if only not in question.what:
                continue
            before, after, again = (side.ask(question) for side in sides)
            found = list(differences(question, before, after))
            kind = kind_of(found)
            if kind == "other" and kind_of(list(differences(question, before, again))) == "other":
                kind = "unsteady"
            kinds[kind] += 1
            statuses[before.status_code] += 1
            for one in found:
                print(f"{kind}: {question.what} ({question.method} {question.path[:80]}, {before.status_code}): {one}")
    told = ", ".join(f"{count} with {status}" for status, count in sorted(statuses.items()))
    print(f"\n{sum(kinds.values())} requests, answered {told}.")
    print(
        f"{kinds['same']} answers are the same byte for byte, {kinds['more']} have fields more, {kinds['meant']} are "
        f"meant to be other, "
        f"{kinds['unsteady']} are unsteady before too, {kinds['other']} are other than before."
    )
    return kinds["other"]


KINDS = {"OTHER": "other", "meant": "meant", "more": "more"}
"""What an answer is by the gravest mark of its differences."""


def kind_of(found: Sequence[str]) -> str:
    """``same``, ``more``, ``meant`` or ``other``."""
    marks = {one.split(":")[0].split()[0] for one in found}
    return next((kind for mark, kind in KINDS.items() if mark in marks), "same")


def link_models(models: Path, target: Path) -> None:
    """Put the models of a repository beside those in ``target`` without copying their bytes."""
    for model in sorted(models.iterdir()):
        if not model.name.startswith("."):
            # Cards are copied: what is written anew must not reach the other checkout's.
            shutil.copytree(model, target / model.name, copy_function=_link)


def _link(source: str, target: str) -> None:
    if source.endswith((".onnx", ".safetensors")):
        Path(target).hardlink_to(source)
    else:
        shutil.copy2(source, target)


def differences(question: Question, old: httpx.Response, new: httpx.Response) -> Iterator[str]:
    """``OTHER`` what is missing or changed, ``more`` what is there beside what was, ``meant`` what was to change."""
    if old.status_code != new.status_code and question.method == "HEAD" and question.meant:
        yield f"meant: {question.meant}"
        return
    if old.status_code != new.status_code:
        yield f"OTHER status {new.status_code}: {new.text[:300]}"
        return
    yield from _headers(old.headers, new.headers)
    before, after = masked(question, old.content), masked(question, new.content)
    if before == after:
        return
    try:
        documents = json.loads(before), json.loads(after)
    except ValueError:
        yield f"OTHER body, from byte {_first(before, after)}: {after[:120]!r} instead of {before[:120]!r}"
        return
    found = [_meant(question, one) for one in _fields(*documents)]
    yield from found or ["more: only the order or the spelling of fields"]


def _meant(question: Question, difference: str) -> str:
    """The same under another mark, where it is meant to be."""
    where = difference.split()[1]
    if "/card/" in where and re.search(r"instead of '[^']*(job|key)_ID", difference):
        return f"meant: {where}, who made a model is private"
    if question.meant and _WORDS.fullmatch(where):
        return f"meant: {where}, {question.meant}"
    return difference


def masked(question: Question, body: bytes) -> bytes:
    """The body without ids and times."""
    for pattern, mask in _MASKS:
        body = pattern.sub(mask, body)
    if question.follow or question.path.startswith(("/v1/jobs", "/v1/artifacts")):
        body = _STORED.sub(b'"stored":0', body)
    if question.path.endswith("/stats"):
        body = _BATCHES.sub(b'"left":"out"', body)
    if question.path.endswith("/results.csv"):
        body = _CSV_SECONDS.sub(rb",0,\1", body)
    return body


def _headers(old: httpx.Headers, new: httpx.Headers) -> Iterator[str]:
    for name in sorted({*old, *new} - _LENGTHS):
        if name not in new:
            yield f"OTHER header {name} is gone"
        elif name not in old:
            yield f"more: header {name}"
        elif _value(name, old[name]) != _value(name, new[name]):
            yield f"OTHER header {name}: {new[name]!r} instead of {old[name]!r}"


def _value(name: str, value: str) -> str:
    if name == "x-request-id":
        return value if value == "mine-1" else "ID"
    if name == "server-timing":
        return re.sub(r"dur=[0-9.]+", "dur=T", value)
    return re.sub(r"(job|art|ds)_[0-9A-Z]{26}", r"\1_ID", value)


def _fields(old: Any, new: Any, where: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in old.keys() | new.keys():
            if name not in new:
                yield f"OTHER {where}/{name} is gone, was {str(old[name])[:100]!r}"
            elif name not in old:
                yield f"more: {where}/{name} = {str(new[name])[:100]!r}"
            else:
                yield from _fields(old[name], new[name], f"{where}/{name}")
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield f"OTHER {where} has {len(new)} entries instead of {len(old)}"
        for index, (one, other) in enumerate(zip(old, new, strict=False)):
            yield from _fields(one, other, f"{where}/{index}")
    elif old != new or type(old) is not type(new):
        yield f"OTHER {where} is {str(new)[:200]!r} instead of {str(old)[:200]!r}"


def _first(one: bytes, other: bytes) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))
