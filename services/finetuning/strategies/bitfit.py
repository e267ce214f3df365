"""BitFit (arXiv 2106.10199): only the biases of the encoder are trained, those of its norms among them."""

from __future__ import annotations

from models.encoders import ImageEncoder
from services.finetuning.strategies.base import Options, Strategy, unsuitable


def _apply(encoder: ImageEncoder, options: Options) -> None:
    biases = [parameter for name, parameter in encoder.named_parameters() if name.rpartition(".")[2].endswith("bias")]
    if not biases:
        raise unsuitable("bitfit", encoder, "none of its layers has a bias")
    for bias in biases:
        bias.requires_grad_(True)


STRATEGY = Strategy("Only biases are trained", _apply, options={})
