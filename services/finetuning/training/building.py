"""Make what a fit trains: a head alone, or a head on an encoder under a strategy."""

from __future__ import annotations

import torch
from torch import Tensor

from models.encoders import ImageEncoder
from services.finetuning.data.examples import Examples
from services.finetuning.encoders import adapted
from services.finetuning.encoders.adapted import Adapted
from services.finetuning.encoders.placing import device
from services.finetuning.heads.head import Head
from services.finetuning.heads.normalisation import Moments
from services.finetuning.heads.recipe import Recipe


def new_model(
    examples: Examples,
    recipe: Recipe,
    text: Tensor | None,
    encoder: ImageEncoder | None,
    *,
    moments: Moments | None = None,
) -> Head | Adapted:
    """Make an untrained head, on an encoder under the recipe's strategy where one is given, on the best device.

    ``moments``: of the encoder's features of the training images, before it is trained.
    """
    if encoder is None:
        torch.manual_seed(recipe.seed)
        return Head(examples.features.shape[1], recipe.classes, recipe.head, text, moments=moments)

    prepared = adapted.apply(encoder, recipe.method, recipe.options, recipe.seed)
    torch.manual_seed(recipe.seed)
    head = Head(encoder.dim_out, recipe.classes, recipe.head, text, moments=moments)
    return Adapted(prepared, head).to(device())
