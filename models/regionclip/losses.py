"""The three losses of region-text pretraining (arXiv 2112.09106, section 3.2), on vectors: whatever makes them.

A frozen teacher, the image-level model, names each region by the concept that it is most like; the student learns to
find that concept's text, to be as sure of every concept as the teacher is, and to match pictures with their captions::

    matched = pseudo_labels(teacher_regions, teacher_concepts)
    own = student_regions[matched.kept]
    loss = (
        region_text_contrastive(own, concepts[matched.concepts], matched.concepts)
        + distillation(own, concepts, matched.probabilities)
        + image_text_contrastive(images, captions)
    )
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

TEMPERATURE = 0.01
LEAST_PROBABILITY = 0.1
"""A region whose best concept is less likely to the teacher is not learnt from."""


@dataclass(frozen=True, slots=True)
class Matched:
    """What a teacher says of ``N`` of the regions: their numbers ``kept`` ``(N,)``, the most likely concept of each
    ``(N,)``, and the probabilities of all, ``(N, K)``."""

    kept: Tensor
    concepts: Tensor
    probabilities: Tensor


@torch.no_grad()
def pseudo_labels(
    regions: Tensor, concepts: Tensor, *, least: float = LEAST_PROBABILITY, temperature: float = TEMPERATURE
) -> Matched:
    """The teacher's vectors of regions ``(R, D)`` against its vectors of concepts ``(K, D)``; equation 1.

    Where no region is sure enough all are kept, as the reference does: a batch is never empty.
    """
    probabilities = (_cosines(regions, concepts) / temperature).softmax(dim=1)
    sureness, best = probabilities.max(dim=1)
    sure = sureness > least
    kept = (sure if bool(sure.any()) else torch.ones_like(sure)).nonzero().flatten()
    return Matched(kept, best[kept], probabilities[kept])


def region_text_contrastive(
    regions: Tensor, texts: Tensor, concepts: Tensor, *, temperature: float = TEMPERATURE
) -> Tensor:
    """Each region finds its concept's text among those of all regions; equation 2, a scalar.

    Regions ``(N, D)``, the text of each one's concept ``(N, D)``, numbers of the concepts ``(N,)``. Regions of one
    concept are positives of each other: their probabilities are summed before the logarithm.
    """
    logits = _cosines(regions, texts) / temperature
    positive = concepts[:, None] == concepts[None, :]
    own = logits.masked_fill(~positive, -torch.inf).logsumexp(dim=1)
    return (logits.logsumexp(dim=1) - own).mean()


def distillation(
    regions: Tensor, concepts: Tensor, probabilities: Tensor, *, temperature: float = TEMPERATURE
) -> Tensor:
    """Divergence of the student's probabilities of all concepts from the teacher's, the mean over regions; equation 3.

    The student's regions ``(N, D)`` and its concepts ``(K, D)``, the teacher's probabilities ``(N, K)``.
    """
    student = (_cosines(regions, concepts) / temperature).log_softmax(dim=1)
    return F.kl_div(student, probabilities, reduction="batchmean")


def image_text_contrastive(images: Tensor, texts: Tensor, *, temperature: float = TEMPERATURE) -> Tensor:
    """CLIP's loss: pictures ``(B, D)``, each seen as one region, and their captions ``(B, D)`` find each other."""
    logits = _cosines(images, texts) / temperature
    own = torch.arange(len(images), device=images.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def _cosines(rows: Tensor, others: Tensor) -> Tensor:
    """In float32 outside of autocast: at a temperature of 0.01 a step of bfloat16 is as large as what matters."""
    with torch.autocast(rows.device.type, enabled=False):
        return F.normalize(rows.float(), dim=1) @ F.normalize(others.float(), dim=1).T
