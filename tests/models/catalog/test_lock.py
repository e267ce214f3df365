"""The lock file: what it may say, and how it says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.catalog.lock import PypiSource, content_key, read_lock
from models.errors import SourceError

GOOD = """
[thing]
kind = "pypi"
package = "thing-model"
version = "1.0"
archive = "thing_model-1.0-py3-none-any.whl"
sha256 = "{hash}"
size = 10
licence = {{ spdx = "MIT", member = "LICENSE" }}
[[thing.members]]
name = "LICENSE"
path = "LICENSE"
sha256 = "{hash}"
size = 5
""".format(hash="a" * 64)


def _lock(folder: Path, text: str) -> Path:
    path = folder / "sources.lock"
    path.write_text(text)
    return path


def test_shipped_lock_is_valid_and_pins_every_archive() -> None:
    sources = read_lock()
    assert {"efficientnet-lite2", "minilm-l6"} <= sources.keys()
    assert {source.licence.spdx for source in sources.values()} <= {"Apache-2.0", "WordNet-3.1"}


def test_address_says_where_to_fetch_by_hand(tmp_path: Path) -> None:
    source = read_lock(_lock(tmp_path, GOOD))["thing"]
    assert isinstance(source, PypiSource) and source.address == "pypi:thing-model==1.0"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("size = 10", "sise = 10"), "thing.pypi.sise"),
        (('sha256 = "aa', 'sha256 = "zz'), "thing.pypi.sha256: String should match"),
        (('"thing-model"', '"--index-url=elsewhere"'), "thing.pypi.package"),
        (("none-any.whl", "none-any.tar.gz"), "thing.pypi.archive"),
        (('member = "LICENSE"', 'member = "COPYING"'), "licence member 'COPYING' is not among"),
        (('name = "LICENSE"', 'name = "../LICENSE"'), "thing.pypi.members.0.name"),
        (('kind = "pypi"', 'kind = "ftp"'), "thing"),
        (("[thing]", "[thing"), "not TOML"),
    ],
)
def test_wrong_field_is_named_with_its_file(tmp_path: Path, change: tuple[str, str], complaint: str) -> None:
    assert change[0] in GOOD
    path = _lock(tmp_path, GOOD.replace(*change))
    with pytest.raises(SourceError) as refusal:
        read_lock(path)
    assert str(path) in str(refusal.value) and complaint in str(refusal.value) and refusal.value.remedy


@pytest.mark.parametrize("url", ["http://example.org/x", "ftp://example.org/x", "file:///etc/passwd", "https:///x"])
def test_only_https_addresses_are_taken(tmp_path: Path, url: str) -> None:
    text = GOOD.replace('kind = "pypi"', f'kind = "https"\nurl = "{url}"')
    lines = [line for line in text.splitlines() if not line.startswith(("package", "version", "archive"))]
    with pytest.raises(SourceError, match="not an https:// address"):
        read_lock(_lock(tmp_path, "\n".join(lines)))


def test_range_must_be_as_long_as_the_member(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="not a range of size 5"):
        read_lock(_lock(tmp_path, GOOD + "bytes = [0, 6]\n"))


def test_content_key_follows_the_pins_and_nothing_else(tmp_path: Path) -> None:
    key = content_key(read_lock(_lock(tmp_path, GOOD))["thing"])
    assert content_key(read_lock(_lock(tmp_path, GOOD.replace("size = 10", 'size = 10\nnote = "x"')))["thing"]) == key
    changed = GOOD.replace('path = "LICENSE"\nsha256 = "aa', 'path = "LICENSE"\nsha256 = "ab')
    assert content_key(read_lock(_lock(tmp_path, changed))["thing"]) != key
