"""What is kept on disk comes back whole, is bounded, and is never a reason to fail."""

import os

import numpy as np
import pytest

from services.encoding.disk_cache import DiskCache

KEYS = [f"{number:032x}" for number in range(6)]


def rows(seed=0, count=4):
    return np.random.default_rng(seed).standard_normal((count, 8)).astype(np.float32)


def test_what_was_kept_comes_back_to_another_process(tmp_path):
    DiskCache(tmp_path / "new", 1 << 20).keep(KEYS[0], rows())
    np.testing.assert_array_equal(DiskCache(tmp_path / "new", 1 << 20).load(KEYS[0]), rows())
    assert DiskCache(tmp_path / "new", 1 << 20).load(KEYS[1]) is None


def test_the_least_recently_used_goes_first(tmp_path):
    cache = DiskCache(tmp_path, 700)  # three of some 200 bytes
    for age, key in enumerate(KEYS[:3]):
        cache.keep(key, rows())
        os.utime(tmp_path / f"{key}.safetensors", (1000 + age, 1000 + age))
    assert cache.load(KEYS[0]) is not None  # used now
    cache.keep(KEYS[3], rows())
    assert [cache.load(key) is not None for key in KEYS[:4]] == [True, False, True, True]


def test_parts_go_once_the_whole_is_there(tmp_path):
    cache = DiskCache(tmp_path, 1 << 20)
    for key in KEYS[:2]:
        cache.keep(key, rows())
    cache.join(KEYS[2], np.concatenate([rows(), rows()]), KEYS[:2])
    assert [path.stem for path in tmp_path.iterdir()] == [KEYS[2]]
    cache.join(KEYS[2], rows(), [KEYS[2]])  # a whole of one part
    np.testing.assert_array_equal(cache.load(KEYS[2]), rows())


@pytest.mark.parametrize("content", [b"", b"torn", b"\xff" * 400])
def test_a_damaged_file_counts_as_absent_and_is_replaced(tmp_path, content):
    cache = DiskCache(tmp_path, 1 << 20)
    (tmp_path / f"{KEYS[0]}.safetensors").write_bytes(content)
    assert cache.load(KEYS[0]) is None
    cache.keep(KEYS[0], rows())
    np.testing.assert_array_equal(cache.load(KEYS[0]), rows())


def test_numbers_that_are_none_are_not_given_out(tmp_path):
    cache = DiskCache(tmp_path, 1 << 20)
    cache.keep(KEYS[0], np.full((2, 2), np.nan, np.float32))
    assert cache.load(KEYS[0]) is None


def test_nothing_is_written_where_nothing_may_be_kept(tmp_path):
    cache = DiskCache(tmp_path / "none", 0)
    cache.keep(KEYS[0], rows())
    assert cache.load(KEYS[0]) is None and not (tmp_path / "none").exists()
    small = DiskCache(tmp_path / "small", 10)
    small.keep(KEYS[0], rows())
    assert small.load(KEYS[0]) is None


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = DiskCache(tmp_path / "file" / "folder", 1 << 20)
    cache.keep(KEYS[0], rows())
    assert cache.load(KEYS[0]) is None


def test_a_key_is_a_hash_and_never_a_path(tmp_path):
    with pytest.raises(ValueError, match="no hash"):
        DiskCache(tmp_path, 1).load("../../etc/passwd-0000")
