"""``/v1/classify`` over Triton."""

from tests.gateway.tasks.test_classify import *  # noqa: F403 - the same tests
