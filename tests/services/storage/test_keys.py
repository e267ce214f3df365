"""Keys are shown once, kept hashed, and refused once revoked."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from services.errors import Kind, Problem
from services.storage.database import connect, reading, upgrade
from services.storage.keys import KeyStore
from services.storage.tables import api_keys


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    url = f"sqlite:///{tmp_path / 'keys.db'}"
    upgrade(url)
    return connect(url)


def test_a_key_opens_with_its_secret_and_nothing_else(engine: Engine) -> None:
    keys = KeyStore(engine)
    first, secret = keys.create("laptop", ["infer", "jobs"], rate=5)
    _, other = keys.create("server", ["admin"])
    assert keys.authenticate(secret) == first
    for wrong in ("", "sl_", secret[:-1], secret + "A", secret.swapcase(), secret[:11] + other[11:], "é" * 40):
        assert keys.authenticate(wrong) is None


def test_the_secret_is_not_in_the_database(engine: Engine) -> None:
    _, secret = KeyStore(engine).create("laptop", ["infer"])
    with reading(engine) as connection:
        stored = repr(connection.execute(select(api_keys)).all())
    assert secret[:11] in stored
    assert secret[11:] not in stored


def test_a_revoked_key_is_refused_and_stays_listed(engine: Engine) -> None:
    keys = KeyStore(engine)
    assert not keys.any()
    key, secret = keys.create("laptop", ["infer"])
    assert keys.any()
    first = keys.revoke(key.id)
    assert keys.revoke(key.id) == first
    assert keys.authenticate(secret) is None
    assert not keys.any()
    assert [k.id for k in keys.list()] == [key.id]


def test_scopes_are_kept_and_admin_may_do_everything(engine: Engine) -> None:
    keys = KeyStore(engine)
    infer, _ = keys.create("a", ["infer", "infer"])
    admin, _ = keys.create("b", ["admin"])
    assert infer.scopes == ("infer",)
    assert infer.may("infer") and not infer.may("jobs") and not infer.may("admin")
    assert admin.may("infer") and admin.may("jobs") and admin.may("admin")


@pytest.mark.parametrize(
    ("name", "scopes", "rate"),
    [("a", [], None), ("a", ["root"], None), (" ", ["infer"], None), ("a" * 201, ["infer"], None), ("a", ["infer"], 0)],
)
def test_a_senseless_key_is_refused(engine: Engine, name: str, scopes: list[str], rate: float | None) -> None:
    with pytest.raises(Problem) as refusal:
        KeyStore(engine).create(name, scopes, rate)
    assert refusal.value.kind is Kind.INVALID


def test_revoking_an_unknown_key_says_so(engine: Engine) -> None:
    with pytest.raises(Problem) as refusal:
        KeyStore(engine).revoke("key_00000000000000000000000000")
    assert refusal.value.kind is Kind.NOT_FOUND
