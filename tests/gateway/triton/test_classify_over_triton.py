"""``/v1/classify`` over Triton."""

from tests.gateway.routes.test_classify import *  # noqa: F403 - the same tests
