"""The losses of region-text pretraining where their values are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from models.regionclip.losses import (
    distillation,
    image_text_contrastive,
    pseudo_labels,
    region_text_contrastive,
)

BASIS = torch.eye(4)


def rows(number: int, seed: int) -> Tensor:
    return torch.randn(number, 4, generator=torch.Generator().manual_seed(seed))


def test_the_teacher_names_regions_by_their_nearest_concept() -> None:
    regions = torch.stack([3 * BASIS[1], 0.1 * BASIS[0] + 0.02 * BASIS[2]])
    matched = pseudo_labels(regions, BASIS)
    assert matched.kept.tolist() == [0, 1] and matched.concepts.tolist() == [1, 0]
    torch.testing.assert_close(matched.probabilities.sum(dim=1), torch.ones(2))


def test_a_region_of_which_the_teacher_is_unsure_is_left_out() -> None:
    even = BASIS.sum(dim=0)  # as like one concept as another: a quarter each
    matched = pseudo_labels(torch.stack([even, BASIS[2]]), BASIS, least=0.3)
    assert matched.kept.tolist() == [1] and matched.concepts.tolist() == [2]
    assert pseudo_labels(even[None], BASIS, least=0.3).kept.tolist() == [0]  # none is sure: all are kept


def test_regions_that_are_their_concepts_cost_almost_nothing_and_swapped_ones_their_distance() -> None:
    concepts = torch.tensor([0, 1])
    assert float(region_text_contrastive(BASIS[:2], BASIS[:2], concepts)) == pytest.approx(0, abs=1e-6)
    swapped = region_text_contrastive(BASIS[:2], BASIS[[1, 0]], concepts, temperature=0.5)
    assert float(swapped) == pytest.approx(math.log(1 + math.exp(2)))


def test_regions_of_one_concept_are_positives_of_each_other() -> None:
    regions, texts = rows(3, 0), rows(1, 1).expand(3, 4)
    assert float(region_text_contrastive(regions, texts, torch.zeros(3))) == pytest.approx(0, abs=1e-6)
    # Two of three texts are positives, all equally like the region: the probability of a positive is 2/3.
    even = region_text_contrastive(regions, texts, torch.tensor([5, 5, 7]))
    assert float(even) == pytest.approx((2 * math.log(3 / 2) + math.log(3)) / 3, abs=1e-5)


def test_regions_of_different_concepts_give_a_cross_entropy() -> None:
    regions, texts = rows(5, 0), rows(5, 1)
    logits = torch.nn.functional.normalize(regions, dim=1) @ torch.nn.functional.normalize(texts, dim=1).T / 0.2
    wanted = torch.nn.functional.cross_entropy(logits, torch.arange(5))
    found = region_text_contrastive(regions, texts, torch.arange(5), temperature=0.2)
    torch.testing.assert_close(found, wanted)


def test_a_student_that_is_its_teacher_has_nothing_to_learn() -> None:
    regions = rows(3, 0).requires_grad_()
    matched = pseudo_labels(regions, BASIS, least=0.0)
    loss = distillation(regions[matched.kept], BASIS, matched.probabilities)
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    (gradient,) = torch.autograd.grad(loss, regions)
    assert float(gradient.abs().max()) < 1e-5


def test_the_divergence_of_an_even_student_from_a_sure_teacher_is_the_logarithm_of_the_concepts() -> None:
    even = BASIS.sum(dim=0)[None].expand(2, 4)
    assert float(distillation(even, BASIS, BASIS[:2])) == pytest.approx(math.log(4))


def test_pictures_and_captions_that_agree_cost_nothing_and_even_ones_the_logarithm_of_the_batch() -> None:
    assert float(image_text_contrastive(BASIS, 7 * BASIS)) == pytest.approx(0, abs=1e-6)
    same = torch.ones(4, 4)
    assert float(image_text_contrastive(same, same)) == pytest.approx(math.log(4))
    one, other = rows(4, 0), rows(4, 1)
    torch.testing.assert_close(image_text_contrastive(one, other), image_text_contrastive(other, one))


def test_only_the_direction_of_a_vector_counts() -> None:
    regions, texts = rows(4, 0), rows(4, 1)
    concepts = torch.tensor([0, 1, 1, 2])
    torch.testing.assert_close(
        region_text_contrastive(regions * torch.tensor([[1], [2], [3], [4]]), texts, concepts),
        region_text_contrastive(regions, texts, concepts),
    )


def test_training_by_all_three_finds_the_concepts() -> None:
    """A linear student learns what a teacher of another space says of regions."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 8, generator=generator)
    teacher, concepts = torch.randn(8, 4, generator=generator), torch.eye(4)
    student = torch.zeros(8, 4).normal_(std=0.1, generator=generator).requires_grad_()
    matched = pseudo_labels(inputs @ teacher, concepts, least=0.0)
    optimiser = torch.optim.Adam([student], lr=0.05)
    for _ in range(40):
        own = (inputs @ student)[matched.kept]
        loss = region_text_contrastive(own, concepts[matched.concepts], matched.concepts)
        loss = loss + distillation(own, concepts, matched.probabilities)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    said = (inputs @ student @ concepts.T).argmax(dim=1)
    assert float((said == matched.concepts).float().mean()) > 0.95
