"""The bidirectional contrastive loss of UniCL in image-text-label space (arXiv 2204.03610, equations 3-5).

Pictures and texts are positives of each other wherever their labels agree. Captions carry label 0 and each becomes a
class of its own, so a batch of captions alone gives CLIP's loss, a batch of labels alone a supervised contrastive one.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

CAPTION = 0
"""The label of a picture that has a caption and no class."""


def with_fresh_ids(labels: Tensor) -> Tensor:
    """``(B,) int64`` with every caption's 0 replaced by an id of its own above all labels, in order."""
    captions = labels == CAPTION
    fresh = labels.max() + captions.cumsum(0)
    return torch.where(captions, fresh, labels)


def unicl_loss(images: Tensor, texts: Tensor, scale: Tensor, labels: Tensor) -> Tensor:
    """Mean of image-to-text and text-to-image loss, a scalar.

    ``images`` and ``texts`` are unit features ``(B, D)``, ``scale`` the temperature as a factor (not its logarithm),
    ``labels`` ``(B,) int64`` with 0 for captions. Pass float32 features, outside autocast: at a temperature of 100 a
    step of bfloat16 is as large as the differences that matter.

    With several processes each passes its own rows, as many as every other, and gets its share: the mean over
    processes of value and of parameter gradients, which is what ``DistributedDataParallel`` takes, is that of one
    process on the joined batch.
    """
    all_images, all_texts, all_labels = gather(images), gather(texts), gather(labels)
    all_ids = with_fresh_ids(all_labels)
    rank = dist.get_rank() if _distributed() else 0
    ids = all_ids[rank * len(labels) : (rank + 1) * len(labels)]
    positives = ids[:, None] == all_ids[None, :]  # (B, B * processes)
    i2t = _cross_entropy(scale * images @ all_texts.T, positives)
    t2i = _cross_entropy(scale * texts @ all_images.T, positives)

    return (i2t + t2i) / 2


def _cross_entropy(logits: Tensor, positives: Tensor) -> Tensor:
    """Mean over rows of the mean over a row's positives of ``-log softmax``."""
    log_likelihood = logits.log_softmax(dim=1)
    share = positives / positives.sum(dim=1, keepdim=True)
    return -(log_likelihood * share).sum(dim=1).mean()


def gather(rows: Tensor) -> Tensor:
    """The rows of all processes, ``(B * processes, ...)``, by rank; gradients flow back to whom they belong."""
    if not _distributed():
        return rows
    gathered: Tensor = _Gather.apply(rows)
    return gathered


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _Gather(torch.autograd.Function):
    """``all_gather`` whose backward sums over processes: each has a loss term on these rows."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]
