"""Where settings come from: what is given, then variables, then files of the folder for secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.settings import Settings, child_environment


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "sightline_database_url").write_text("postgresql://me:secret@db/sightline\n")
    monkeypatch.setenv("SIGHTLINE_SECRETS_DIR", str(folder))
    return folder


def test_a_secret_is_read_from_its_file(secrets: Path) -> None:
    assert Settings().database_url == "postgresql://me:secret@db/sightline"


def test_a_secret_is_found_behind_the_links_of_a_kubernetes_volume(secrets: Path) -> None:
    (secrets / "..2026_01").mkdir()
    (secrets / "..2026_01" / "sightline_redis_url").write_text("redis://:pw@redis/0")
    (secrets / "..data").symlink_to("..2026_01")
    (secrets / "sightline_redis_url").symlink_to("..data/sightline_redis_url")
    assert Settings().redis_url == "redis://:pw@redis/0"


def test_variables_count_more_than_files_and_arguments_more_than_both(
    secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGHTLINE_DATABASE_URL", "sqlite:///variable.db")
    assert Settings().database_url == "sqlite:///variable.db"
    assert Settings(database_url="sqlite:///given.db").database_url == "sqlite:///given.db"


def test_the_folder_can_be_given_and_need_not_exist(secrets: Path, tmp_path: Path) -> None:
    assert Settings(secrets_dir=tmp_path / "nothing").database_url is None


def test_other_processes_of_the_platform_read_the_same_secrets(secrets: Path) -> None:
    settings = Settings(port=1)
    (secrets / "sightline_database_url").unlink()
    environment = child_environment(settings, {}, {})
    assert environment["SIGHTLINE_DATABASE_URL"] == settings.database_url
    assert environment["SIGHTLINE_SECRETS_DIR"] == str(secrets)


def test_the_token_for_metrics_is_not_shown() -> None:
    assert "0123456789abcdef" not in repr(Settings(metrics_token="0123456789abcdef"))
