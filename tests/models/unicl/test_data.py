"""Training data: which lines are taken, what text a picture gets, and that a visit depends on its key alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.unicl.data import Batches, CropAndFlip, DataError, ImageTextLabel, collate, normalised, read_pairs


def folder_with(tmp_path: Path, *rows: dict[str, Any] | str) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    lines = [row if isinstance(row, str) else json.dumps({"image": "a.png", **row}) for row in rows]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def texts(folder: Path, *templates: str, visits: int = 60) -> set[str]:
    data = ImageTextLabel(folder, CropAndFlip(8), templates)
    return {data[step, 0].text for step in range(visits)}


def test_captions_get_label_0_and_classes_ids_from_1(tmp_path: Path) -> None:
    entries = read_pairs(folder_with(tmp_path, {"label": "dog"}, {"caption": "a walk"}, {"label": "cat"}, ""))
    assert [entry.label for entry in entries] == [2, 0, 1]


def test_class_is_told_by_any_of_its_names_in_any_template(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {"label": "dog", "names": ["dog", "hound"]})
    assert texts(folder, "a {}.", "the {}!") == {"a dog.", "the dog!", "a hound.", "the hound!"}


def test_caption_is_left_as_it_is(tmp_path: Path) -> None:
    assert texts(folder_with(tmp_path, {"caption": "a dog, a cat + more"}), "a {}.") == {"a dog, a cat + more"}


def test_names_lose_commas_and_plus_signs_as_in_the_reference(tmp_path: Path) -> None:
    assert texts(folder_with(tmp_path, {"label": "salt, pepper+oil"}), "{}") == {"salt pepper oil"}


@pytest.mark.parametrize("templates", [(), ("a photo",), ("{} and {}",)])
def test_templates_need_one_place_for_the_name(tmp_path: Path, templates: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="exactly one"):
        ImageTextLabel(folder_with(tmp_path, {"label": "dog"}), CropAndFlip(8), templates)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({}, "a caption or a label"),
        ({"caption": "a dog", "label": "dog"}, "a caption or a label"),
        ({"caption": "  "}, "a caption or a label"),
        ({"label": "dog", "names": []}, "names must be"),
        ({"label": "dog", "names": ["dog", ""]}, "names must be"),
        ({"label": "dog", "image": "../a.png"}, "outside of the data set"),
        ({"label": "dog", "image": 3}, "image is missing"),
        ({"label": "dog", "image": "b.png"}, r"b\.png is not there"),
        ("{", "no JSON"),
        ("[]", "image is missing"),
    ],
)
def test_bad_line_is_named(tmp_path: Path, row: dict[str, Any] | str, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint) as caught:
        read_pairs(folder_with(tmp_path, {"label": "dog"}, row))
    assert "line 2" in str(caught.value)


def test_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {"caption": "a walk"})
    (folder / "a.png").write_bytes((folder / "a.png").read_bytes()[:60])
    with pytest.raises(DataError, match=r"a\.png cannot be read"):
        ImageTextLabel(folder, CropAndFlip(8))[0, 0]


def test_folder_without_pairs_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no readable pairs\.jsonl"):
        read_pairs(tmp_path)
    with pytest.raises(DataError, match="names no pictures"):
        read_pairs(folder_with(tmp_path))


def test_visit_depends_on_seed_step_and_picture_alone(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {"label": "dog", "names": ["dog", "hound"]}, {"caption": "a walk"})
    one, other = (ImageTextLabel(folder, CropAndFlip(8), ["a {}", "{}"], seed=3) for _ in range(2))
    _ = [other[step, 0] for step in range(5)]
    assert torch.equal(one[7, 0].pixels, other[7, 0].pixels)
    assert one[7, 0].text == other[7, 0].text
    assert not torch.equal(one[7, 0].pixels, one[8, 0].pixels)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_pictures_of_every_mode_become_three_channels(tmp_path: Path, mode: str) -> None:
    folder = folder_with(tmp_path, {"caption": "a walk"})
    Image.new("RGB", (12, 10), (200, 100, 50)).convert(mode).save(tmp_path / "b.tiff")
    (folder / "pairs.jsonl").write_text('{"image": "b.tiff", "caption": "a walk"}')
    pixels = ImageTextLabel(folder, CropAndFlip(8))[0, 0].pixels
    assert pixels.shape == (3, 8, 8)
    assert bool(torch.isfinite(pixels).all())


def test_crop_stays_inside_the_picture() -> None:
    image = Image.new("RGB", (3, 200), (124, 116, 104))  # ImageNet's mean, so that a black border would show
    for seed in range(50):
        pixels = CropAndFlip(8, least_area=0.1)(image, np.random.default_rng(seed))
        assert float(pixels.abs().max()) < 0.05


def test_pixels_are_normalised_as_they_are_served() -> None:
    pixels = normalised(Image.new("RGB", (2, 2), (255, 0, 255)))
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (1 - 0.406) / 0.225]
    assert pixels[:, 0, 0].tolist() == pytest.approx(expected, rel=1e-5)


def keys(**changes: int) -> list[list[tuple[int, int]]]:
    values = {"length": 10, "batch_size": 4, "seed": 1, "first_step": 0, "last_step": 5, **changes}
    return list(Batches(**values))


def test_every_pass_visits_every_picture_once() -> None:
    seen = [number for batch in keys() for _, number in batch]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]


def test_later_start_gives_the_same_batches() -> None:
    assert keys(first_step=3) == keys()[3:]


def test_processes_share_the_batch_of_one() -> None:
    first, second = keys(rank=0, ranks=2), keys(rank=1, ranks=2)
    assert [one + other for one, other in zip(first, second, strict=True)] == keys()


def test_batch_may_be_larger_than_the_data() -> None:
    (batch,) = keys(length=3, batch_size=8, last_step=1)
    assert len(batch) == 8
    assert {number for _, number in batch} == {0, 1, 2}


def test_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be shared"):
        keys(ranks=3)


def test_samples_are_stacked_in_order(tmp_path: Path) -> None:
    data = ImageTextLabel(folder_with(tmp_path, {"label": "dog"}, {"caption": "a walk"}), CropAndFlip(8))
    pixels, found, labels = collate([data[0, 1], data[0, 0]])
    assert pixels.shape == (2, 3, 8, 8)
    assert found == ["a walk", "dog"]
    assert labels.tolist() == [0, 1]
