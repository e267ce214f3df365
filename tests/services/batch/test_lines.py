"""Lines of a batch, wherever they come from, can be taken up again in the middle."""

import base64
import io
import zipfile

import orjson
import pytest
from PIL import Image

from services.batch.kind import BatchParameters
from services.batch.lines import of_package, parse
from services.datasets.archive import ArchiveLimits
from services.datasets.importing import import_archive
from services.datasets.package import Package
from services.media.intake import Limits


@pytest.fixture
def package(tmp_path):
    with zipfile.ZipFile(tmp_path / "up.zip", "w") as bundle:
        for number in range(4):
            sink = io.BytesIO()
            Image.new("RGB", (4 + number, 4)).save(sink, "PNG")
            bundle.writestr(f"cat/{number}.png", sink.getvalue())
    limits = Limits(max_bytes=1 << 20, max_pixels=10_000, max_aspect=50, max_frames=10)
    import_archive(tmp_path / "up.zip", "cats", tmp_path / "cats.zip", limits, ArchiveLimits())
    with Package(tmp_path / "cats.zip") as opened:
        yield opened


def test_every_picture_of_a_set_is_a_line_with_its_path(package):
    parameters = BatchParameters(input="dataset:cats", defaults={"top_k": 1})
    calls = [parse(line, parameters.endpoint, parameters.defaults) for line in of_package(package, 0)]
    assert [(call.custom_id, call.url) for call in calls] == [(f"cat/{n}.png", "/v1/classify") for n in range(4)]
    body = orjson.loads(calls[2].body)
    assert body["top_k"] == 1 and base64.b64decode(body["image"]) == package.read(package.samples[2])


def test_lines_of_a_set_go_on_where_they_stopped(package):
    whole = list(of_package(package, 0))
    assert list(of_package(package, whole[1].end)) == whole[2:]
