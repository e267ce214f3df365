"""Label sets are listed and shown in the order of their labels."""

from __future__ import annotations

from gateway.app import create_app
from models.catalog.labels import label_set, label_sets
from services.settings import Settings
from tests.support.asgi import client


async def test_label_sets_are_listed_and_shown(settings: Settings) -> None:
    async with client(create_app(settings)) as http:
        listed = (await http.get("/v1/label-sets")).json()
        assert [one["id"] for one in listed["data"]] == list(label_sets())
        shown = (await http.get("/v1/label-sets/imagenet-1k")).json()
        assert tuple(shown["labels"]) == label_set("imagenet-1k")
        assert shown["count"] == len(shown["labels"]) == 1000
        for name in ("none-such", "..", "%2e%2e%2fsources.lock", "a%00"):
            answer = await http.get(f"/v1/label-sets/{name}")
            assert answer.status_code == 404, name
