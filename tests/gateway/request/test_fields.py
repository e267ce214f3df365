"""The form that checks requests accepts what the class it is derived from does; refusals point at the field."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest
from pydantic import BaseModel, ValidationError

from gateway.request.form import form_of
from gateway.request.nested import Form
from gateway.tasks.classify import ClassifyBody
from gateway.tasks.embeddings import EmbeddingsBody
from services.errors import Kind, Problem
from services.settings import Settings

SETTINGS = Settings()
CLASSIFY, EMBEDDINGS = form_of(ClassifyBody, SETTINGS), form_of(EmbeddingsBody, SETTINGS)

TEXTS: list[Any] = ["a cat", "", " ", "\t\n", "a\x00b", "x" * 64, "x" * 65, "x" * 8192, "x" * 8193, "ä" * 8192, "💡"]
NOT_TEXTS: list[Any] = [0, 1, -1, 1.5, 3.0, True, False, [], {}, [1], {"a": 1}, 10**30, 1e308, [["a"]], [None]]
LISTS: list[Any] = [["a"], ["a", "b"], ["a", ""], ["a", 1], ["a", None], ["x" * 8193], ["a"] * 64, ["a"] * 65]
LONG: list[Any] = [["a"] * 256, ["a"] * 257, ["a"] * 2048, ["a"] * 2049, ["a"] * 10_000, ["a"] * 10_001]
NUMBERS: list[Any] = [2, 64, 10_000, 10_001, 65_536, 65_537, 0.5, 1.0, 1.0000001, -0.0, "3", "true", "float", "base64"]
VALUES = [None, *TEXTS, *NOT_TEXTS, *LISTS, *LONG, *NUMBERS]


def accepts(form: Form[Any], body: object) -> bool:
    try:
        form.read(body)
    except Problem as problem:
        assert problem.kind is Kind.INVALID
        assert problem.pointer is not None
        return False
    return True


def documents(schema: type[BaseModel], body: object) -> bool:
    try:
        schema.model_validate_json(orjson.dumps(body))
    except ValidationError:
        return False
    return True


CASES = [(CLASSIFY, ClassifyBody, name) for name in CLASSIFY.fields]
CASES += [(EMBEDDINGS, EmbeddingsBody, name) for name in EMBEDDINGS.fields]


@pytest.mark.parametrize(("form", "schema", "name"), CASES, ids=[f"{case[1].__name__}-{case[2]}" for case in CASES])
def test_form_and_class_accept_and_refuse_the_same(form: Form[Any], schema: type[BaseModel], name: str) -> None:
    for value in VALUES:
        if isinstance(value, int) and abs(value) > 2**63:
            continue  # not an integer of JSON as either side reads it
        others: dict[str, Any] = {} if name in ("image", "images", "input") else {"image": "aGk="}
        body = {**others, name: value}
        assert accepts(form, body) == documents(schema, body), (name, str(value)[:80])


@pytest.mark.parametrize(("form", "schema"), [(CLASSIFY, ClassifyBody), (EMBEDDINGS, EmbeddingsBody)])
def test_form_and_class_have_the_same_fields(form: Form[Any], schema: type[BaseModel]) -> None:
    assert set(form.fields) == set(schema.model_fields)


def test_form_and_class_agree_on_fields_together() -> None:
    rng = random.Random(7)
    values = [value for value in VALUES if len(str(value)) < 300 and not (isinstance(value, int) and value > 2**63)]
    accepted = 0
    for _ in range(3000):
        names = rng.sample([*CLASSIFY.fields, "other"], rng.randint(0, 4))
        body = {"image": "aGk="} | {name: rng.choice(values) for name in names}
        accepted += accepts(CLASSIFY, body)
        assert accepts(CLASSIFY, body) == documents(ClassifyBody, body), body
    assert accepted > 50


def problem(form: Form[Any], body: object) -> Problem:
    with pytest.raises(Problem) as caught:
        form.read(body)
    return caught.value


def test_an_unknown_field_is_named_with_the_nearest_known_one() -> None:
    found = problem(CLASSIFY, {"image": "x", "lables": ["a"]})
    assert (found.code, found.pointer, found.remedy) == ("field-unknown", "/lables", "Did you mean 'labels'?")
    assert "labels" in (problem(CLASSIFY, {"zzzz": 1}).remedy or "")
    assert problem(CLASSIFY, {"a/b~c": 1}).pointer == "/a~1b~0c"


def test_the_pointer_leads_to_the_item() -> None:
    assert problem(CLASSIFY, {"labels": ["a", "b", 3]}).pointer == "/labels/2"
    assert problem(CLASSIFY, {"images": ["a", ""]}).pointer == "/images/1"
    assert problem(CLASSIFY, {"top_k": 0}).pointer == "/top_k"
    assert problem(CLASSIFY, []).pointer == ""


def query(**texts: str | list[str]) -> dict[str, Any]:
    pairs = [(name, text) for name, given in texts.items() for text in ([given] if isinstance(given, str) else given)]
    return CLASSIFY.query(pairs)


def test_query_parameters_become_the_same_values() -> None:
    assert query(labels="cat,dog", top_k="3", threshold="0.25", multi_label="true", explain="0") == {
        "labels": ["cat", "dog"],
        "top_k": 3,
        "threshold": 0.25,
        "multi_label": True,
        "explain": False,
    }
    assert query(labels=["red, green", "blue"]) == {"labels": ["red, green", "blue"]}


@pytest.mark.parametrize(
    "texts",
    [
        {"top_k": ""},
        {"top_k": "3.0"},
        {"top_k": "١"},
        {"top_k": "1_0"},
        {"top_k": "9" * 5000},
        {"top_k": ["1", "2"]},
        {"threshold": "nan"},
        {"threshold": "inf"},
        {"threshold": "x"},
        {"multi_label": "maybe"},
        {"labels": ""},
        {"labels": "a,,b"},
        {"model": ""},
        {"other": "1"},
    ],
)
def test_wrong_query_parameters_are_refused(texts: dict[str, str | list[str]]) -> None:
    with pytest.raises(Problem) as caught:
        query(**texts)
    assert caught.value.kind is Kind.INVALID
