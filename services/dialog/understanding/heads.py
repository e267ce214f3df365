"""Two small networks on frozen features, in NumPy: tags of tokens, and questions about a turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

Floats = NDArray[np.float32]

NAMES = tuple(f"{head}.{layer}.{kind}" for head in ("tags", "turn") for layer in (0, 1) for kind in ("weight", "bias"))
"""What a file of heads holds: two heads of two layers."""


@dataclass(frozen=True, slots=True)
class Heads:
    """``weights`` by the names of :data:`NAMES`: ``weight (out, in)`` and ``bias (out,)``, all float32.

    A head is ``W1 gelu(W0 x + b0) + b1``; its input is the features and the context of the turn, joined.
    """

    weights: Mapping[str, Floats]

    def tags(self, tokens: Floats, context: Floats) -> Floats:
        """``(L, F)`` features of the tokens of one text and its ``(C,)`` context to probabilities ``(L, tags)``."""
        joined = np.concatenate([tokens, np.broadcast_to(context, (len(tokens), len(context)))], 1)
        scores = self._head("tags", joined.astype(np.float32))
        scores = np.exp(scores - scores.max(1, keepdims=True))
        return np.asarray(scores / scores.sum(1, keepdims=True), np.float32)

    def turn(self, sentence: Floats, context: Floats) -> Floats:
        """``(F,)`` features of one turn and its context to probabilities ``(turns,)``, each by itself."""
        joined = np.concatenate([sentence, context])[None].astype(np.float32)
        return np.asarray(1 / (1 + np.exp(-self._head("turn", joined)[0].clip(-30, 30))), np.float32)

    def _head(self, name: str, x: Floats) -> Floats:
        w = self.weights
        hidden = x @ w[f"{name}.0.weight"].T + w[f"{name}.0.bias"]
        return np.asarray(_gelu(hidden) @ w[f"{name}.1.weight"].T + w[f"{name}.1.bias"], np.float32)

    def save(self) -> bytes:
        """As a safetensors file."""
        return save({name: np.ascontiguousarray(self.weights[name]) for name in NAMES})

    @staticmethod
    def load(data: bytes) -> Heads:
        """From such a file, of any precision; raises ``ValueError`` for another."""
        try:
            weights = load(data)
        except SafetensorError as error:
            raise ValueError(f"no safetensors file: {error}") from error
        if sorted(weights) != sorted(NAMES):
            raise ValueError(f"it holds {', '.join(sorted(weights)[:8])} instead of {', '.join(NAMES)}")
        return Heads({name: np.asarray(weights[name], np.float32) for name in NAMES})


def _gelu(x: Floats) -> Floats:
    """Gaussian error linear unit, by its tanh form (Hendrycks & Gimpel 2016), as PyTorch's ``approximate="tanh"``."""
    return np.asarray(0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3))), np.float32)


def pooled(tokens: Floats) -> Floats:
    """``(L, F)`` features of the tokens of one text to ``(2 F,)``: their mean and their maximum."""
    return np.concatenate([tokens.mean(0), tokens.max(0)])
