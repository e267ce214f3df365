"""The towers of a pre-trained model as the files that are served, in the precision that its owner asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from models.encoders import encoder_files, encoder_of
from models.errors import ModelError
from models.export.onnx import Answer
from models.export.precision import Chosen, Precision, answers
from models.repository.reading import MODEL
from models.unicl.export import image_signature, serve_image, serve_text, text_signature
from models.unicl.network import UniCL


@dataclass(frozen=True, slots=True)
class Exported:
    """Both towers, and ``encoder``: what lies beside the image tower so that it can be fine-tuned."""

    image: Chosen
    text: Chosen
    encoder: dict[str, Path | bytes]
    towers: ServedTowers

    @property
    def precision(self) -> str:
        """What both towers are computed in, or what the pictures and what the texts."""
        image, text = self.image.engine.precision, self.text.engine.precision
        return image if image == text else f"{image} and {text}"

    @property
    def exact(self) -> bool:
        """Whether the files compute what the network computes."""
        return self.precision == "fp32"


class ServedTowers:
    """The files as towers; see :class:`services.pretraining.zero_shot_score.Towers`."""

    def __init__(self, image: Answer, text: Answer) -> None:
        self._image, self._text = image, text

    def encode_image(self, images: Tensor, /) -> Tensor:
        return torch.from_numpy(self._image({"image": images.numpy()})[0])

    def encode_text(self, input_ids: Tensor, /) -> Tensor:
        return torch.from_numpy(self._text({"input_ids": input_ids.numpy()})[0])


def export_towers(
    model: UniCL, folder: Path, image_size: int, precision: Precision, told: Callable[[str], None]
) -> Exported:
    """Export, check and reduce both towers into ``folder``; ``told`` hears what is being done and may raise.

    A tower that does not bear ``precision`` stays exact and its card says why: the training is not lost over it. Raises
    :class:`models.export.onnx.ExportError` when the exact file is wrong.
    """
    image, text = (folder / tower / MODEL for tower in ("image", "text"))
    for target in (image, text):
        target.parent.mkdir(exist_ok=True)

    told("exporting and checking the image tower")
    seen = borne(lambda asked: serve_image(model, image, image_size, asked), precision)
    told("exporting and checking the text tower")
    read = borne(lambda asked: serve_text(model, text, asked), precision)
    served = ServedTowers(
        answers(seen, image, image_signature(model))[1], answers(read, text, text_signature(model))[1]
    )
    encoder = encoder_of(model.image_encoder, model.image_projection, unit=True)
    return Exported(seen, read, encoder_files(encoder, image.parent), served)


def borne(serve: Callable[[Precision], Chosen], precision: Precision) -> Chosen:
    """Return what ``serve`` makes of ``precision``, or the exact one, whose reason then says why."""
    try:
        return serve(precision)
    except ModelError as error:
        if precision == "fp32":
            raise
        exact = serve("fp32")
        reason = f"{exact.engine.reason}; not {precision}, since {error}"
        return replace(exact, engine=exact.engine.model_copy(update={"reason": reason}))
