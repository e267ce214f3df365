"""Published checkpoint files to named tensors, safely, and into a network only when every name and shape fits.

Two rules for all lines. A pickle is opened only by ``torch.load(weights_only=True)``, which runs no code of the file.
And a load is all or nothing: a file under foreign names that ``strict=False`` would accept loads nothing and answers
noise.
"""

from __future__ import annotations

import argparse
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from models.errors import ModelError

State = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]

WRAPPERS = ("model", "state_dict", "model_state_dict", "module")
"""Under which of these a training script puts the weights beside optimizer and schedule, outermost first."""

PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DataParallel, ``torch.compile`` and Lightning put before every name, sometimes one after the other."""

DEEPEST = 4
"""How many such wrappings one file may have."""

DERIVED = ("relative_position_index", "attn_mask", "num_batches_tracked")
"""Last parts of buffer names that a network computes itself, so that a file may leave them out."""

TENSORS_ALONE = "Take a file that holds tensors alone, or have its publisher save one as safetensors."

FETCH_AGAIN = "Fetch it again and compare its size and hash with the publisher's."

LISTED = 8
"""How many names of each sort a refusal spells out."""


class CheckpointError(ModelError):
    """A checkpoint that is not taken."""


class UnreadableCheckpoint(CheckpointError):
    """The file is cut off, damaged, of no known format, or would have to run code to be read."""


class MismatchedCheckpoint(CheckpointError):
    """The weights are not those of the network: names in full, and the variants that they do fit."""

    def __init__(
        self,
        missing: Iterable[str],
        unexpected: Iterable[str],
        reshaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]],
        fits: Iterable[str],
    ) -> None:
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)
        self.reshaped = dict(reshaped)
        self.fits = tuple(fits)
        shapes = [f"{name} is {got}, not {want}" for name, (got, want) in self.reshaped.items()]
        parts = [
            f"{what}: {_listed(names)}"
            for what, names in (("missing", self.missing), ("unexpected", self.unexpected), ("shape", shapes))
            if names
        ]
        super().__init__(
            f"The checkpoint does not fit the network. {'. '.join(parts)}.",
            f"It is {', or '.join(self.fits)}: ask for that."
            if self.fits
            else "It is no published variant: build the network from its own configuration.",
        )


def read_state(path: Path) -> State:
    """Every weight of a ``.safetensors`` file or of a file by ``torch.save``, floats as float32, unwrapped.

    Raises :class:`UnreadableCheckpoint`, or ``OSError`` when there is no such file.
    """
    if path.suffix == ".safetensors":
        try:
            content: object = load_file(path)
        except SafetensorError as error:
            raise UnreadableCheckpoint(f"{path.name} is damaged or cut off: {error}", FETCH_AGAIN) from error
    else:
        content = _unpickle(path)
    state = _unwrap(content, path.name)
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def load(network: nn.Module, state: Mapping[str, Tensor], fits: Callable[[Shapes], Iterable[str]]) -> None:
    """Put ``state`` into ``network``, which may live on the meta device; every name and shape must match.

    ``fits`` names the variants that a state of such shapes does belong to, for the refusal. Raises
    :class:`MismatchedCheckpoint`, or :class:`CheckpointError` on values that are not finite.
    """
    own = {name: buffer for name, buffer in network.named_buffers() if name.rpartition(".")[2] in DERIVED}
    weights = {name: tensor for name, tensor in state.items() if name.rpartition(".")[2] not in DERIVED}
    wanted = weight_shapes(network.state_dict())
    given = weight_shapes(weights)
    if wanted != given:
        both = wanted.keys() & given.keys()
        raise MismatchedCheckpoint(
            missing=[name for name in wanted if name not in given],
            unexpected=[name for name in given if name not in wanted],
            reshaped={
                name: (given[name], wanted[name]) for name in wanted if name in both and given[name] != wanted[name]
            },
            fits=fits(given),
        )

    for name, buffer in own.items():
        theirs = state.get(name)
        if name.endswith("num_batches_tracked"):  # counts training steps; absent in old files
            own[name] = torch.zeros_like(buffer, device="cpu") if theirs is None else theirs
        elif theirs is not None and theirs.shape == buffer.shape and not torch.equal(theirs.to(buffer.dtype), buffer):
            raise CheckpointError(
                f"{name} differs from what the architecture gives: the window layout is another one",
                "It is no published variant: build the network from its own configuration.",
            )

    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{name} holds values that are not finite: the file is damaged", FETCH_AGAIN)

    network.load_state_dict({**weights, **own}, strict=True, assign=True)


def weight_shapes(state: Mapping[str, Tensor]) -> Shapes:
    """Names and shapes of the weights alone, without the buffers that a network computes itself."""
    return {name: tuple(tensor.shape) for name, tensor in state.items() if name.rpartition(".")[2] not in DERIVED}


def fitting(shapes: Shapes, variants: Mapping[str, Callable[[], nn.Module]]) -> list[str]:
    """The variants whose weights have exactly these names and shapes; each is built without memory."""
    found = []
    for name, build in variants.items():
        with torch.device("meta"):
            if weight_shapes(build().state_dict()) == shapes:
                found.append(name)
    return found


def _unpickle(path: Path) -> object:
    # Training scripts save their settings beside the weights. These two classes become a dict and a bag of values;
    # any other class or function that the file names is refused by torch before it is imported.
    inert: list[Callable[..., object] | tuple[Callable[..., object], str]] = [
        (OrderedDict, "yacs.config.CfgNode"),
        argparse.Namespace,
    ]
    with path.open("rb") as file, warnings.catch_warnings(), torch.serialization.safe_globals(inert):
        warnings.simplefilter("ignore")  # about the pickle protocol of a file that is about to be refused
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # damaged bytes make the reader stumble in ways that it does not list
            if not isinstance(error, pickle.UnpicklingError) or "GLOBAL" not in str(error):
                raise UnreadableCheckpoint(f"{path.name} is damaged, cut off or no checkpoint", FETCH_AGAIN) from error
            wanted = str(error).partition("GLOBAL ")[2].split(" ")[0]
            raise UnreadableCheckpoint(
                f"{path.name} asks for {wanted}, which only running the file's code could give, so it is refused",
                TENSORS_ALONE,
            ) from error


def _unwrap(content: object, file: str) -> State:
    for _ in range(DEEPEST):  # bounded, because a mapping may hold itself
        if isinstance(content, Mapping):
            content = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping) or not content:
        raise UnreadableCheckpoint(f"{file} holds no weights under any of: {', '.join(WRAPPERS)}", TENSORS_ALONE)
    strangers = [str(name) for name, value in content.items() if not _is_plain(value)]
    if strangers:
        raise UnreadableCheckpoint(
            f"{file} holds things that are no plain tensors: {_listed(strangers)}", TENSORS_ALONE
        )
    state = {str(name): tensor for name, tensor in content.items()}
    while prefix := next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in state)), ""):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _is_plain(value: object) -> bool:
    """A dense tensor whose elements are all in the file: a view that repeats them could be larger than any memory."""
    if not isinstance(value, Tensor) or value.layout is not torch.strided:
        return False
    return value.untyped_storage().nbytes() >= value.numel() * value.element_size()


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    rest = len(every) - LISTED
    return ", ".join(every[:LISTED]) + (f" and {rest} more" if rest > 0 else "")
