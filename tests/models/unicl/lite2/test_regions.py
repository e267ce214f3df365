"""Boxes are pooled out of the map exactly, wherever they lie, and the shipped matrix is the catalog's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.backbones.efficientnet_lite import CONFIGS, EfficientNetLite
from models.catalog.catalog import Catalog
from models.efficientnet_lite.feature_map import STRIDE, FeatureMap
from models.repository.hashing import sha256
from models.unicl.lite2 import align
from models.unicl.lite2.regions import WEIGHTS, pooled


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Matrices this small are slower on two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


MAP = torch.randn(1, 4, 6, 3, generator=torch.Generator().manual_seed(0))


def sampled(box, steps=200):
    """The mean of the interpolated map at many points of ``box``."""
    axes = []
    for low, high, count in ((box[1], box[3], 4), (box[0], box[2], 6)):
        places = low + (high - low) * (np.arange(steps) + 0.5) / steps
        axes.append(((places - 0.5) / STRIDE).clip(0, count - 1))
    rows, columns = axes
    grid = MAP[0].double().numpy()
    total = np.zeros(3)
    for row in rows:
        top, share = min(int(row), 2), row - min(int(row), 2)
        line = grid[top] * (1 - share) + grid[top + 1] * share
        for channel in range(3):
            total[channel] += np.interp(columns, np.arange(6), line[:, channel]).mean()
    return total / steps


@pytest.mark.parametrize("box", [(10, 20, 90, 70), (0.5, 0.5, 160.5, 96.5), (33, 40, 40, 47), (64.5, 32.5, 64.6, 32.6)])
def test_a_box_is_the_mean_of_the_interpolated_map(box) -> None:
    got = pooled(MAP, torch.tensor([[box]], dtype=torch.float32))[0, 0].numpy()
    assert got == pytest.approx(sampled(box), abs=2e-2)


def test_a_box_without_area_or_beyond_the_photo_is_the_nearest_place() -> None:
    boxes = torch.tensor([[[-90, -80, -40, -30], [32.5, 64.5, 32.5, 64.5], [500, 400, 900, 600]]], dtype=torch.float32)
    got = pooled(MAP, boxes)[0]
    assert torch.isfinite(got).all()
    for row, cell in zip(got, (MAP[0, 0, 0], MAP[0, 2, 1], MAP[0, 3, 5]), strict=True):
        assert row.numpy() == pytest.approx(cell.numpy(), abs=2e-2)


def test_the_map_is_what_the_classifier_pools_at_an_odd_side() -> None:
    torch.manual_seed(0)
    network = EfficientNetLite(CONFIGS["efficientnet-lite0"]).eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = network.features(torch.nn.functional.pad(image, (0, 1, 0, 1)))
        cells = FeatureMap(network)(image)
    assert cells.shape == (1, 3, 4, 1280)
    assert cells.mean(dim=(1, 2)).numpy() == pytest.approx(expected.numpy(), abs=1e-5)


def test_training_draws_regions_to_where_their_crops_are(monkeypatch) -> None:
    monkeypatch.setattr(align, "STEPS", 60)
    monkeypatch.setattr(align, "RATE", 1e-2)
    generator = torch.Generator().manual_seed(1)
    taught = torch.rand(64, 10, generator=generator)
    seen = taught @ (torch.eye(10) + 0.5 * torch.randn(10, 10, generator=generator))
    see, concepts = torch.randn(10, 4, generator=generator), torch.randn(20, 4, generator=generator)

    def distance(matrix, bias):
        unit = torch.nn.functional.normalize
        return 1 - (unit(seen @ matrix + bias, dim=1) * unit(taught @ see, dim=1)).sum(1).mean().item()

    trained, bias = align.train(seen, taught, see, torch.nn.functional.normalize(concepts, dim=1), seed=0)
    assert distance(trained, bias) < 0.95 * distance(see, 0)


def test_the_catalog_ships_the_trained_matrix() -> None:
    entry = Catalog.read().entry("unicl-lite2-regions")
    assert sha256(WEIGHTS) == entry.options["weights"] and WEIGHTS.stat().st_size < 10_000_000
