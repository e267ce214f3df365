"""Whose a model is, over Triton: its ``ownership.json`` lies in a folder that the server reads too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.settings import Settings
from tests.gateway.test_ownership import (  # noqa: F401 - the same tests
    PRIVATE,
    ROWS,
    Place,
    place,
    test_a_removed_model_is_gone_and_its_name_is_free,
    test_lists_have_it_for_those_it_is_there_for,
    test_parts_follow_the_pipeline_that_they_were_made_for,
)
from tests.support.triton_suite import Shared


@pytest.fixture
def settings(tmp_path: Path, shared_triton: Shared) -> Iterator[Settings]:
    yield shared_triton.settings(tmp_path / "data", auth="required", preload=("*",), jobs=False)
    shared_triton.restore()


async def test_the_server_serves_a_model_that_has_an_owner_and_who_it_answers_is_the_gateways_to_say(
    place: Place,  # noqa: F811 - a fixture
    shared_triton: Shared,
) -> None:
    asked = f"/v2/models/{PRIVATE}/infer"
    assert (shared_triton.root / PRIVATE / "ownership.json").is_file()
    for _ in range(2):  # as it was preloaded, and loaded anew with the owner's file there
        status, told = await place.told("owner", "POST", asked, ROWS)
        assert (status, told["outputs"][0]["data"]) == (200, [2, 4, 6, 8])
        assert (await place.told("other", "POST", asked, ROWS))[0] == 404

        async with httpx.AsyncClient(base_url=shared_triton.server.url, timeout=30) as triton:
            direct = (await triton.post(asked, json=ROWS)).json()
        assert direct["outputs"][0]["data"] == [2, 4, 6, 8]
        assert shared_triton.server.states()[f"{PRIVATE}/1"] == "READY"
        assert (await place.told("owner", "POST", f"/v1/models/{PRIVATE}/load"))[0] == 200

    assert (await place.told("owner", "POST", f"/v1/models/{PRIVATE}/share"))[1]["shared"] is True
    assert (await place.told("other", "POST", asked, ROWS))[0] == 200
