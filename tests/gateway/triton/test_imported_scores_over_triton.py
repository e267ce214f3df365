"""Scores of imported models over Triton."""

from tests.gateway.tasks.test_imported_scores import *  # noqa: F403 - the same tests
