"""``client.models`` and ``client.model``: what the platform serves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from sightline.client.halves import N, call
from sightline.client.resource import Json, Resource, json_of, segment


@dataclass(frozen=True, slots=True)
class Model:
    """One model that the platform has. ``card`` is everything known about it, as the platform sent it."""

    name: str
    task: str
    version: str
    state: str
    runtime: str
    card: Mapping[str, object]


class Models(Resource[N]):
    @call
    async def models(self) -> list[Model]:
        """Every model that the platform has.

        >>> client = Client()
        >>> "unicl-pocket" in [model.name for model in client.models()]
        True
        """
        return await self._ask("GET", "/v1/models", _models)

    @call
    async def model(self, name: str) -> Model:
        """One model by its name; :class:`APIError` with status 404 when there is none.

        >>> client = Client()
        >>> client.model("unicl-pocket").task
        'zero-shot-classify'
        """
        return await self._ask("GET", f"/v1/models/{segment(name)}", lambda response: _model(json_of(response)))

    @call
    async def share_model(self, name: str, *, shared: bool = True) -> Model:
        """Let every key use a model that a job of yours has made; with ``shared`` false, keep it to yourself again.

        ``client.share_model("my-pets")``. Raises :class:`APIError`: 404 for a model that is not there for your key,
        409 for a part of another model.
        """
        method = "POST" if shared else "DELETE"
        return await self._ask(method, f"/v1/models/{segment(name)}/share", lambda response: _model(json_of(response)))

    @call
    async def delete_model(self, name: str) -> None:
        """Take a model that a job of yours has made out of service, and remove it with all its versions.

        ``client.delete_model("my-pets")``. Raises :class:`APIError`: 404 for a model that is not there for your key,
        409 where another model is made of it.
        """
        await self._ask("DELETE", f"/v1/models/{segment(name)}", lambda response: None)


def _models(response: httpx.Response) -> list[Model]:
    return [_model(entry) for entry in json_of(response)["data"]]


def _model(entry: Json) -> Model:
    return Model(
        name=entry["id"],
        task=entry.get("task") or "",
        version=str(entry.get("version") or ""),
        state=entry.get("state") or "",
        runtime=entry.get("runtime") or "",
        card=entry.get("card") or {},
    )
