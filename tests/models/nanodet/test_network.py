"""NanoDet-Plus-m in PyTorch is what ncnn runs: ``ncnn.safetensors`` holds what ncnn 1.0.20261020 gave in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from models.catalog.catalog import Catalog
from models.errors import ModelError
from models.nanodet.ncnn import convolutions
from models.nanodet.network import NanoDet, NanoDetConfig, decoded, grid
from models.nanodet.weights import BINARY, PARAM, order, published, read

REFERENCE = load_file(Path(__file__).with_name("ncnn.safetensors"))


@pytest.fixture(scope="module")
def network() -> NanoDet:
    return read(PARAM, BINARY)


@pytest.mark.parametrize("level", range(4))
def test_every_stride_is_equal_to_its_ncnn_run(network: NanoDet, level: int) -> None:
    stride = network.config.strides[level]
    with torch.no_grad():
        _, outputs = network.levels(torch.from_numpy(REFERENCE["image"])[None])[level]
    np.testing.assert_allclose(outputs[0].numpy(), REFERENCE[f"stride{stride}"], atol=5e-5)


def test_every_parameter_is_named_once_and_filled_from_the_file(network: NanoDet) -> None:
    names = list(order(NanoDetConfig()))
    assert len(set(names)) == len(names)
    assert {f"{name}.{part}" for name in names for part in ("weight", "bias")} == set(network.state_dict())
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_186_346


def test_a_box_is_the_expected_distance_from_the_corner_of_its_cell() -> None:
    cells = grid(torch.zeros(1, 1, 2, 3), 16)
    assert cells[4].tolist() == [16, 16, 16]  # no half cell
    bins = torch.full((1, 6, 4, 8), -50.0)
    bins[0, 4, :, 2] = 50.0  # surely two strides to each side
    assert decoded(bins, cells)[0, 4].tolist() == pytest.approx([-16, -16, 48, 48])
    bins[0, 4, 0] = 0.0  # any of 0 to 7 strides to the left
    assert decoded(bins, cells)[0, 4, 0].item() == pytest.approx(16 - 3.5 * 16)


def test_a_picture_with_an_odd_number_of_coarse_cells_has_one_more_of_stride_64(network: NanoDet) -> None:
    with torch.no_grad():
        boxes, scores, features = network(torch.zeros(2, 3, 96, 32))
    count = 12 * 4 + 6 * 2 + 3 * 1 + 2 * 1
    assert (boxes.shape, scores.shape, features.shape) == ((2, count, 4), (2, count, 80), (2, count, 96))


def test_other_weights_than_the_catalogs_are_refused() -> None:
    with pytest.raises(ModelError, match="not the file that the catalog means"):
        published("0" * 64)


@pytest.mark.parametrize("cut", [-4, 4])
def test_a_file_that_is_too_short_or_too_long_is_refused(tmp_path: Path, cut: int) -> None:
    whole = BINARY.read_bytes()
    (tmp_path / "b").write_bytes(whole[:cut] if cut < 0 else whole + bytes(cut))
    with pytest.raises(ModelError, match=r"no pair of ncnn files: .*bytes|no pair of ncnn files: the numbers end"):
        convolutions(PARAM, tmp_path / "b")


def test_a_graph_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("<html>")
    with pytest.raises(ModelError, match="begins with '<html>'"):
        convolutions(tmp_path / "p", BINARY)


def test_the_catalog_ships_the_published_file() -> None:
    entry = Catalog.read().entry("nanodet-coco")
    assert published(str(entry.options["weights"])).config.num_classes == 80
    assert BINARY.stat().st_size < 10_000_000
