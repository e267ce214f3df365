"""The trained part of ``unicl-lite2``: a matrix on the picture side, two kernel regressions on the text side.

A label's place in the space of pictures is regressed on the places of known labels (kernel ridge with a Gaussian
kernel over unit vectors), once from a text and once from what WordNet says that it means. How alike two texts are, how
wide the kernel is, how far to trust a neighbour and how to see pictures is learned; the coefficients follow in closed
form (Bertinetto et al. 2018, arXiv 1805.08136). So a label that was left out is predicted just as a new one will be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F


class KernelHead(nn.Module):
    """Embeddings ``(B, E)`` to directions ``(B, D)`` by regression on ``anchors (N, M)`` in a learned metric.

    ``anchors`` and ``coefficients (N, D)`` are buffers that :meth:`settle` fills.
    """

    anchors: Tensor
    coefficients: Tensor

    def __init__(self, metric: Tensor, width: float, ridge: float) -> None:
        super().__init__()
        self.metric = nn.Parameter(metric)
        self.width = nn.Parameter(torch.tensor(math.log(width)))
        self.ridge = nn.Parameter(torch.tensor(math.log(ridge)))
        self.register_buffer("anchors", torch.zeros(0, metric.shape[1]))
        self.register_buffer("coefficients", torch.zeros(0, 0))

    def place(self, embeddings: Tensor) -> Tensor:
        """Unit vectors ``(B, M)``, whose cosine is likeness."""
        return F.normalize(embeddings @ self.metric, dim=-1)

    def kernel(self, places: Tensor, anchors: Tensor) -> Tensor:
        return torch.exp(self.width.exp() * (places @ anchors.T - 1))

    def solve(self, anchors: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Coefficients ``(N, D)``; an anchor of ``weights (N,)`` below one is trusted less."""
        system = self.kernel(anchors, anchors) + torch.diag(self.ridge.exp() / weights)
        return torch.linalg.solve(system, targets)

    def settle(self, embeddings: Tensor, targets: Tensor, weights: Tensor) -> None:
        """Make ``embeddings (N, E)`` with ``targets (N, D)`` what is regressed on from now on."""
        self.anchors = self.place(embeddings)
        self.coefficients = self.solve(self.anchors, targets, weights)

    def forward(self, embeddings: Tensor) -> Tensor:
        return F.normalize(self.kernel(self.place(embeddings), self.anchors) @ self.coefficients, dim=-1)


class PhotoUniCL(nn.Module):
    """``see``: features ``(B, F)`` to the space; ``text`` and ``meaning``: heads into it; ``share``: how much a meaning
    counts beside a text, ``scale`` the temperature, both as logarithms."""

    def __init__(self, see: Tensor, text: KernelHead, meaning: KernelHead, share: float = 2.0, scale: float = 20.0):
        super().__init__()
        self.see = nn.Parameter(see)
        self.text = text
        self.meaning = meaning
        self.share = nn.Parameter(torch.tensor(math.log(share)))
        self.scale = nn.Parameter(torch.tensor(math.log(scale)))

    def labels(self, text: Tensor, meaning: Tensor, known: Tensor) -> Tensor:
        """Unit rows ``(B, D)`` of what the heads gave; ``known (B,)`` is 0 where a label's meaning is not known."""
        return F.normalize(text + self.share.exp() * known[:, None] * meaning, dim=-1)


def load(weights: Path) -> PhotoUniCL:
    """The network of a file that training wrote, in single precision."""
    return from_state({name: tensor.float() for name, tensor in load_file(weights).items()})


def from_state(state: Mapping[str, Tensor]) -> PhotoUniCL:
    text, meaning = (KernelHead(state[f"{name}.metric"], 1, 1) for name in ("text", "meaning"))
    model = PhotoUniCL(state["see"], text, meaning)
    for name, head in (("text", model.text), ("meaning", model.meaning)):
        head.anchors, head.coefficients = state[f"{name}.anchors"], state[f"{name}.coefficients"]
    model.load_state_dict(dict(state))
    return model.eval()


def pack(model: PhotoUniCL, into: Path) -> None:
    """Write it in half precision, for the repository."""
    into.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.to(torch.float16).contiguous() for name, tensor in model.state_dict().items()}, into)
