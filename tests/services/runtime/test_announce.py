"""What is announced is served by processes that run, and by those that start later; what is withdrawn is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.errors import Problem
from services.runtime import announce
from services.runtime.desired_state import DesiredStates
from services.runtime.onnx.backend import OnnxBackend
from services.runtime.version_policy import VersionPolicy
from services.settings import Settings


async def test_a_running_process_follows_and_a_later_one_finds_it(settings: Settings, repository: Path) -> None:
    running = OnnxBackend(settings.model_copy(update={"preload": ()}))
    await running.start()
    try:
        announce.serve(settings, "tiny-adder")
        with await running.resolve("tiny-adder"):
            pass
        announce.withdraw(settings, "tiny-adder")
        with pytest.raises(Problem):
            await running.resolve("tiny-adder")
    finally:
        await running.close()

    announce.serve(settings, "tiny-adder")
    later = OnnxBackend(settings.model_copy(update={"preload": ()}))
    await later.start()
    try:
        assert later.ready("tiny-adder")
    finally:
        await later.close()


def test_the_versions_that_somebody_asked_for_stay(settings: Settings) -> None:
    policy = VersionPolicy("all")
    DesiredStates.of(settings).write("own", loaded=True, policy=policy)
    announce.serve(settings, "own", "other")
    own, other = announce.state_of(settings, "own"), announce.state_of(settings, "other")
    assert own is not None and own.policy == policy
    assert other is not None and other.loaded and announce.state_of(settings, "nobody's") is None


def test_a_folder_that_takes_no_file_is_a_problem_with_a_remedy(settings: Settings) -> None:
    blocked = settings.model_copy(update={"data_dir": settings.data_dir / "file"})
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    blocked.data_dir.write_text("in the way")
    with pytest.raises(Problem) as caught:
        announce.serve(blocked, "own")
    assert caught.value.remedy
