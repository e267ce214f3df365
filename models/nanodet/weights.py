"""The published NanoDet-Plus-m weights as a network: which convolution of the ncnn graph is which parameter.

The graph has no names of ours, but it is a program: run in the order of our own modules, each convolution takes the
blob that the one before it made. The order of execution is therefore written down here once, by names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from models.errors import ModelError
from models.nanodet.ncnn import convolutions
from models.nanodet.network import NanoDet, NanoDetConfig
from models.repository.hashing import sha256

FOLDER = Path(__file__).parent / "weights"
PARAM, BINARY, LICENCE = FOLDER / "nanodet_plus.param", FOLDER / "nanodet_plus.bin", FOLDER / "LICENSE"


def published(expected: str) -> NanoDet:
    """The network of the shipped files, in eval mode; raises :class:`ModelError` for other bytes than ``expected``."""
    if not BINARY.is_file() or sha256(BINARY) != expected:
        raise ModelError(f"{BINARY} is not the file that the catalog means", "reinstall the package")
    return read(PARAM, BINARY)


def read(param: Path, binary: Path) -> NanoDet:
    """The network of a pair of ncnn files; raises :class:`ModelError` that says which convolution does not fit."""
    network = NanoDet()
    wanted = network.state_dict()
    found = convolutions(param, binary)
    names = list(order(network.config))
    if len(found) != len(names):
        raise ModelError(
            f"{param} has {len(found)} convolutions, NanoDet-Plus-m has {len(names)}", "name files of NanoDet-Plus-m"
        )

    state = {}
    for name, one in zip(names, found, strict=True):
        for part, values in (("weight", one.weight), ("bias", one.bias)):
            key = f"{name}.{part}"
            if tuple(wanted[key].shape) != values.shape:
                raise ModelError(
                    f"{param}: {one.name} has the shape {values.shape} where {key} has {tuple(wanted[key].shape)}",
                    "name files of NanoDet-Plus-m",
                )
            state[key] = torch.from_numpy(values)
    network.load_state_dict(state, strict=True)
    return network.eval()


def order(config: NanoDetConfig) -> Iterator[str]:
    """Names of the convolutions in the order of the published graph."""
    yield "backbone.conv1.0"
    for stage, repeats in enumerate(config.repeats, 2):
        for block in range(repeats):
            here = f"backbone.stage{stage}.{block}"
            if block == 0:  # the first depthwise of branch 1, then branch 2 up to its depthwise, then the two pointwise
                yield from (f"{here}.{name}" for name in ("branch1.0", "branch2.0", "branch2.3", "branch1.2"))
                yield f"{here}.branch2.5"
            else:
                yield from (f"{here}.branch2.{number}" for number in (0, 3, 5))

    yield "fpn.reduce_layers.2.conv"
    for number, reduced in enumerate((1, 0)):
        yield f"fpn.reduce_layers.{reduced}.conv"
        yield from _ghost(f"fpn.top_down_blocks.{number}")
    for number in range(2):
        yield from _pair(f"fpn.downsamples.{number}")
        yield from _ghost(f"fpn.bottom_up_blocks.{number}")
    yield from _pair("fpn.extra_lvl_in_conv.0")
    yield from _pair("fpn.extra_lvl_out_conv.0")

    # The graph computes the first module of each stride, then the rest from the coarsest stride to the finest.
    levels = range(len(config.strides))
    for level in levels:
        yield from _pair(f"head.cls_convs.{level}.0")
    for level in reversed(levels):
        yield from _pair(f"head.cls_convs.{level}.1")
        yield f"head.gfl_cls.{level}"


def _pair(name: str) -> Iterator[str]:
    yield from (f"{name}.depthwise", f"{name}.pointwise")


def _ghost(name: str) -> Iterator[str]:
    here = f"{name}.blocks.0"
    for module in ("ghost1", "ghost2"):
        yield from (f"{here}.{module}.primary_conv.0", f"{here}.{module}.cheap_operation.0")
    yield from (f"{here}.shortcut.0", f"{here}.shortcut.2")
