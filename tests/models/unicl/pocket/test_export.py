"""The image tower of the pocket UniCL goes into its version folder as a network too, which every strategy adapts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.catalog.catalog import Catalog
from models.encoders import ImageEncoder, read_encoder
from models.family import Build
from models.progress import silent
from models.unicl.pocket import export
from models.unicl.pocket.network import SIZE, load
from services.finetuning.encoders.adapted import apply, count
from services.finetuning.strategies import names
from services.finetuning.strategies.base import strategy

TRAINING = [name for name in names() if strategy(name).trains_encoder]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the builder puts into a version folder; the ONNX file, which takes most of its time, is left out."""
    into = tmp_path_factory.mktemp("version")
    entry = Catalog.read().entry("unicl-pocket-image")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "export", lambda *_: None)
        patch.setattr(export, "verify", lambda *_, **__: None)
        files = export.build_image(Build(entry.card, entry.options, {}, into, into, silent))
    for name, content in files.items():
        if isinstance(content, bytes):
            (into / name).write_bytes(content)
    return into


@pytest.fixture(scope="module")
def encoder(folder: Path) -> ImageEncoder:
    return read_encoder(folder)


def test_the_network_beside_the_onnx_file_gives_its_embedding(encoder: ImageEncoder) -> None:
    drawings = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, _ = export.ImageTower(load(export.WEIGHTS)).eval()(drawings)
        torch.testing.assert_close(encoder(drawings), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", TRAINING)
def test_every_strategy_adapts_it(encoder: ImageEncoder, method: str) -> None:
    drawings = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    adapted = apply(encoder, method, {})
    assert count(adapted) > 0
    adapted(drawings)[:, 0].sum().backward()
    assert any(parameter.grad is not None and parameter.grad.abs().max() > 1e-6 for parameter in adapted.parameters())
