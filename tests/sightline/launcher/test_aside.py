"""Work in a process of its own gives its answer, its problem, or the fact that it died."""

from __future__ import annotations

import sys

import pytest

from services.errors import Kind, Problem
from services.settings import Settings
from sightline.launcher.aside import aside
from tests.support.server import ROOT


@pytest.fixture(autouse=True)
def _tests_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_the_answer_comes_back_and_the_imports_do_not(settings: Settings) -> None:
    sys.modules.pop("this", None)
    assert aside("tests.support.asides:talk", settings.model_copy(update={"port": 4321})) is True
    assert "this" not in sys.modules
    assert aside("tests.support.asides:talk", settings) is False


def test_a_problem_comes_back_whole(settings: Settings) -> None:
    with pytest.raises(Problem) as caught:
        aside("tests.support.asides:refuse", settings)
    problem = caught.value
    assert (problem.kind, problem.code, problem.title) == (Kind.CONFLICT, "taken", "It is taken")
    assert (problem.detail, problem.pointer, problem.remedy) == ("By somebody.", "/x", "Ask them.")


def test_a_bug_is_a_problem_that_says_what_it_was(settings: Settings) -> None:
    with pytest.raises(Problem, match="ZeroDivisionError: division by zero"):
        aside("tests.support.asides:fail", settings)


def test_a_child_that_is_killed_is_a_problem(settings: Settings) -> None:
    with pytest.raises(Problem, match="died"):
        aside("tests.support.asides:die", settings)
