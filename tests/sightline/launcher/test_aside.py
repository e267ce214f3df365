"""Work in a child process gives its answer, its problem, or the fact that it died."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from services.errors import Kind, Problem
from sightline.launcher.aside import aside


def _refuse() -> bool:
    raise Problem(Kind.CONFLICT, "taken", "It is taken", "By somebody.", pointer="/x", remedy="Ask them.")


def _break() -> bool:
    raise ZeroDivisionError("division by zero")


def _import() -> bool:
    import this  # noqa: F401

    return True


def _die() -> bool:
    os.kill(os.getpid(), signal.SIGKILL)
    return True


def test_the_answer_comes_back_and_the_imports_do_not(capfd: pytest.CaptureFixture[str]) -> None:
    sys.modules.pop("this", None)
    assert aside(_import) is True
    assert "this" not in sys.modules
    assert aside(lambda: False) is False


def test_a_problem_comes_back_whole() -> None:
    with pytest.raises(Problem) as caught:
        aside(_refuse)
    problem = caught.value
    assert (problem.kind, problem.code, problem.title) == (Kind.CONFLICT, "taken", "It is taken")
    assert (problem.detail, problem.pointer, problem.remedy) == ("By somebody.", "/x", "Ask them.")


def test_a_bug_is_a_problem_that_says_what_it_was() -> None:
    with pytest.raises(Problem, match="ZeroDivisionError: division by zero"):
        aside(_break)


def test_a_child_that_is_killed_is_a_problem() -> None:
    with pytest.raises(Problem, match="died"):
        aside(_die)
