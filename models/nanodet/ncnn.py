"""Reads the weights out of a pair of ncnn files: the graph in text (``.param``) and the numbers (``.bin``).

The format is ncnn's (github.com/Tencent/ncnn, docs/developer-guide/{param-and-model-file-structure,operators}.md):
layers follow each other in both files. A convolution's weights begin with a tag, 0x01306B47 for half and 0 for single
precision; half precision is padded to four bytes; its bias is in single precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import ModelError

MAGIC = "7767517"
HALF, SINGLE = 0x01306B47, 0
CONVOLUTIONS = ("Convolution", "ConvolutionDepthWise")
OUTPUTS, KERNEL, BIAS, COUNT = "0", "1", "5", "6"
"""Numbers of a convolution's parameters."""


@dataclass(frozen=True, slots=True)
class Convolution:
    """``weight (outputs, inputs / groups, k, k)`` and ``bias (outputs,)``, float32, and the names of its blobs."""

    name: str
    source: str
    target: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


def convolutions(param: Path, binary: Path) -> list[Convolution]:
    """Every convolution in the order of the files. Raises :class:`ModelError` where they are no such pair."""
    try:
        return list(_read(param.read_text("utf-8"), binary.read_bytes()))
    except (ValueError, IndexError, KeyError) as error:
        raise ModelError(f"{param} and {binary} are no pair of ncnn files: {error}", "fetch both again") from error


def _read(graph: str, content: bytes) -> Iterator[Convolution]:
    lines = graph.splitlines()
    if lines[0].strip() != MAGIC:
        raise ValueError(f"the graph begins with {lines[0][:20]!r}, not with {MAGIC}")

    at = 0
    for line in lines[2:]:
        kind, name, ins, outs, *rest = line.split()
        if kind not in CONVOLUTIONS:
            continue
        blobs, settings = rest[: int(ins) + int(outs)], _settings(rest[int(ins) + int(outs) :])
        weight, at = _weights(content, at, int(settings[COUNT]))
        outputs, kernel = int(settings[OUTPUTS]), int(settings[KERNEL])
        bias = np.zeros(outputs, np.float32)
        if int(settings.get(BIAS, "0")):
            bias, at = _numbers(content, at, outputs, "<f4")
        yield Convolution(name, blobs[0], blobs[-1], weight.reshape(outputs, -1, kernel, kernel), bias)

    if at != len(content):
        raise ValueError(f"the graph accounts for {at:,} of {len(content):,} bytes")


def _settings(fields: list[str]) -> Mapping[str, str]:
    pairs = (field.split("=", 1) for field in fields)
    return {number: value for number, value in pairs if not number.startswith("-")}


def _weights(content: bytes, at: int, count: int) -> tuple[NDArray[np.float32], int]:
    tag = int.from_bytes(content[at : at + 4], "little")
    if tag == HALF:
        values, end = _numbers(content, at + 4, count, "<f2")
        return values, end + -end % 4
    if tag == SINGLE:
        return _numbers(content, at + 4, count, "<f4")
    raise ValueError(f"weights at byte {at:,} have the tag {tag:#x}, which is neither half nor single precision")


def _numbers(content: bytes, at: int, count: int, form: str) -> tuple[NDArray[np.float32], int]:
    end = at + count * np.dtype(form).itemsize
    if end > len(content):
        raise ValueError(f"the numbers end at byte {len(content):,}, {end:,} are needed")
    return np.frombuffer(content, form, count, at).astype(np.float32), end
