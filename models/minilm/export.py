"""The published MiniLM sentence encoder as ONNX, exact or in int8."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from models.export.onnx import Axis, Signature, agreement, export, verify
from models.export.quantise import dynamic_int8
from models.family import Build, Files
from models.intake.checkpoint import fitting, load, read_state
from models.text.minilm import MiniLM, MiniLMConfig

_FREE = {0: Axis("batch", 1, 4096), 1: Axis("length", 1, 512)}
SIGNATURE = Signature(("input_ids", "attention_mask"), ("embedding",), {"input_ids": _FREE, "attention_mask": _FREE})
_UNUSED = ("pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids")
"""What the file holds beyond the encoder: BERT's next-sentence head, and a buffer of the numbers 0 to 511."""

LEAST_COSINE = 0.97
"""What int8 must reach on every row of random tokens, which are harder for it than sentences."""


class HeadedMiniLM(nn.Module):
    """Token ids and mask to the features ``(B, D)`` of a head behind the frozen sentence encoder."""

    def __init__(self, encoder: MiniLM, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        features: Tensor = self.head(self.encoder(input_ids, attention_mask))
        return features


class TokenMiniLM(nn.Module):
    """Token ids and mask to features of every token ``(B, L, 2 width)``, the middle layer's and the last one's, and to
    the sentence's embedding ``(B, width)``: what heads for spans and for whole turns are trained on."""

    def __init__(self, encoder: MiniLM) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        layers = self.encoder.hidden(input_ids, attention_mask)
        tokens = torch.cat([layers[len(layers) // 2 - 1], layers[-1]], -1) * attention_mask[..., None]
        return tokens, self.encoder.pooled(layers[-1], attention_mask)


TOKEN_SIGNATURE = replace(SIGNATURE, outputs=("tokens", "embedding"))
HEADED_SIGNATURE = replace(SIGNATURE, outputs=("text_embedding",))


def read_minilm(folder: Path) -> MiniLM:
    """The encoder of the published weights in ``folder``, to be evaluated; raises :class:`ModelError` for others."""
    state = read_state(folder / "weights.safetensors")
    for name in _UNUSED:
        state.pop(name, None)
    network = MiniLM(MiniLMConfig())
    load(network, state, lambda shapes: fitting(shapes, {"minilm-l6": lambda: MiniLM(MiniLMConfig())}))
    return network.eval()


def build(job: Build) -> Files:
    """``options``: ``precision`` is ``fp32`` or ``int8``, ``tokens`` asks for features of every token too; the source
    holds the weights and the tokenizer."""
    (folder,) = job.sources.values()
    job.progress("read weights", 0, 3)
    encoder, config = read_minilm(folder), MiniLMConfig()
    network: nn.Module = encoder
    signature = SIGNATURE
    if job.options.get("tokens", False):
        network, signature = TokenMiniLM(encoder).eval(), TOKEN_SIGNATURE

    job.progress("export", 1, 3)
    target = job.scratch / "model.onnx"
    export(network, tokens(config, 3, 7), signature, target)
    job.progress("verify", 2, 3)
    examples = [tokens(config, batch, length) for batch, length in ((1, 1), (1, 512), (2, 9), (5, 64))]
    verify(network, examples, signature, target)
    if job.options.get("precision", "fp32") == "int8":
        exact, target = target, job.scratch / "int8.onnx"
        dynamic_int8(exact, target, ("MatMul", "Gather"))
        agreement(network, examples, signature, target, least=LEAST_COSINE)

    job.progress("verify", 3, 3)
    return {"model.onnx": target, "tokenizer.json": folder / "tokenizer.json"}


def tokens(config: MiniLMConfig, batch: int, length: int) -> list[Tensor]:
    """Random ids and a mask whose rows end at different lengths, ``(batch, length) int64`` each."""
    generator = torch.Generator().manual_seed(batch * 1009 + length)
    ids = torch.randint(1, config.vocabulary, (batch, length), generator=generator)
    ends = torch.randint(1, length + 1, (batch, 1), generator=generator)
    mask = (torch.arange(length) < ends).long()
    return [ids * mask, mask]
