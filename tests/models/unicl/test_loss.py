"""The UniCL loss: what counts as a positive."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from models.unicl.loss import unicl_loss, with_fresh_ids


def features(rows: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed)), dim=1)


SCALE = torch.tensor(10.0)


def test_captions_become_classes_of_their_own_above_all_labels() -> None:
    assert with_fresh_ids(torch.tensor([0, 4, 4, 0, 7])).tolist() == [8, 4, 4, 9, 7]


def test_captions_alone_give_the_loss_of_clip() -> None:
    images, texts = features(5, 0), features(5, 1)
    logits, target = SCALE * images @ texts.T, torch.arange(5)
    clip = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    torch.testing.assert_close(unicl_loss(images, texts, SCALE, torch.zeros(5, dtype=torch.int64)), clip)


def test_order_of_the_batch_does_not_matter() -> None:
    images, texts, labels = features(6, 0), features(6, 1), torch.tensor([0, 3, 3, 0, 5, 3])
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    torch.testing.assert_close(
        unicl_loss(images[order], texts[order], SCALE, labels[order]), unicl_loss(images, texts, SCALE, labels)
    )


def test_pictures_and_texts_may_change_places() -> None:
    images, texts, labels = features(6, 0), features(6, 1), torch.tensor([0, 3, 3, 0, 5, 3])
    torch.testing.assert_close(unicl_loss(images, texts, SCALE, labels), unicl_loss(texts, images, SCALE, labels))


def test_perfect_features_of_distinct_classes_cost_almost_nothing() -> None:
    same = torch.eye(4)
    assert unicl_loss(same, same, torch.tensor(100.0), torch.arange(1, 5)) < 1e-6


def test_features_of_one_class_need_not_differ() -> None:
    same = torch.eye(2)[[0, 0, 1, 1]]
    labelled = unicl_loss(same, same, torch.tensor(100.0), torch.tensor([1, 1, 2, 2]))
    captioned = unicl_loss(same, same, torch.tensor(100.0), torch.zeros(4, dtype=torch.int64))
    torch.testing.assert_close(labelled, torch.tensor(2.0).log())  # spread evenly over two positives
    torch.testing.assert_close(captioned, labelled)  # CLIP pays as much, and pulls them apart for it
