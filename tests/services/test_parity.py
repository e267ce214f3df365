"""Fixtures of what serving itself computes: a right one passes, a wrong one fails, a hostile one is refused."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from models.families import families
from models.parity import UnknownFixture
from models.verify import verify_fixture
from services.parity import KINDS

PREPROCESS = Path(__file__).parents[1] / "parity" / "preprocess"


@pytest.fixture
def fixture(tmp_path):
    return Path(shutil.copytree(PREPROCESS, tmp_path / "preprocess"))


def test_pictures_become_the_tensors_of_the_reference():
    report = verify_fixture(PREPROCESS, KINDS)
    assert report.ok, report.text()
    assert {one.name for one in report.comparisons} == {"gray", "landscape", "portrait", "rgba", "squash", "tiny_up"}


def test_another_tensor_than_expected_fails(fixture):
    expected = {name: array.copy() for name, array in load_file(fixture / "io.safetensors").items()}
    expected["rgba"][0, 5, 5] += 0.01
    save_file(expected, fixture / "io.safetensors")
    report = verify_fixture(fixture, KINDS)
    assert [one.name for one in report.comparisons if not one.ok] == ["rgba"]


def test_a_picture_outside_of_the_fixture_is_not_read(fixture):
    config = json.loads((fixture / "config.json").read_text())
    config["cases"][0]["file"] = "../secret.png"
    (fixture / "config.json").write_text(json.dumps(config))
    shutil.copy(fixture / "gray.png", fixture.parent / "secret.png")
    with pytest.raises(UnknownFixture, match="no file of"):
        verify_fixture(fixture, KINDS)


def test_each_kind_has_a_name_of_its_own():
    names = [kind.name for line in families() for kind in line.fixtures] + [kind.name for kind in KINDS]
    assert len(set(names)) == len(names)
