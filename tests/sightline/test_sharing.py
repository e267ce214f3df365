"""A model of one key is given to all, taken back and removed: by the client, and by the command on the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from models.catalog.card import Card
from models.repository.ownership import MadeBy
from models.repository.reading import latest
from models.repository.writer import write_version
from services.settings import Settings
from services.storage.database import connect, upgrade
from services.storage.keys import KeyStore
from sightline import APIError, Client
from sightline.cli.main import app as cli
from tests.support import tiny_models
from tests.support.server import serving

NAME = "my-adder"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", auth="required", log_level="warning", jobs=False)


@pytest.fixture
def clients(settings: Settings, tmp_path: Path) -> Iterator[tuple[Client, Client]]:
    """The owner of a model, and somebody else."""
    upgrade(settings.database)
    store = KeyStore(connect(settings.database))
    tiny_models.add_all(settings.models_dir)
    (owner, mine), (_, theirs) = store.create("owner", ("infer", "jobs")), store.create("other", ("infer", "jobs"))
    folder = latest(settings.models_dir, "tiny-adder")
    assert folder is not None
    card = Card.read(folder).model_copy(update={"name": NAME})
    files = {path: folder / path for path in card.files}
    write_version(settings.models_dir, card, files, made_by=MadeBy(key=owner.id, job="job_1"))
    with serving(settings, tmp_path) as server, Client(server.url, mine) as own, Client(server.url, theirs) as other:
        yield own, other


def names(client: Client) -> list[str]:
    return [model.name for model in client.models()]


def test_the_owner_shares_a_model_takes_it_back_and_removes_it(clients: tuple[Client, Client]) -> None:
    own, other = clients
    assert NAME in names(own) and NAME not in names(other)

    assert own.share_model(NAME).name == NAME
    assert NAME in names(other)
    with pytest.raises(APIError) as refused:
        other.delete_model(NAME)
    assert refused.value.status in (403, 404)

    own.share_model(NAME, shared=False)
    assert NAME not in names(other)
    own.delete_model(NAME)
    assert NAME not in names(own)


def test_the_command_does_the_same_beside_a_running_server(clients: tuple[Client, Client], settings: Settings) -> None:
    _, other = clients
    for word, seen in (("share", True), ("unshare", False)):
        result = CliRunner().invoke(cli, ["models", word, NAME, "--data-dir", str(settings.data_dir)])
        assert result.exit_code == 0, result.output
        assert (NAME in names(other)) is seen
