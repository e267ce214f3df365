"""The versions that are open in the worker, each for as long as a gateway holds it."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

import numpy as np

from models.catalog.card import Card
from models.programs import Arrays, Opening, Program
from services.errors import Kind, Problem
from services.runtime.onnx.warmup import example
from services.runtime.problems import engine_failed, model_damaged, model_invalid
from services.runtime.repository import CARD_FILE, Repository
from services.runtime.tensors import DTYPES, Signature
from services.runtime.torch_worker.process.memory import Memory

Key = tuple[str, str, str]
"""Name, version, and the sha256 of the card: a version that was written anew is another one."""

CODE_CARRIERS = frozenset({".bin", ".ckpt", ".npy", ".npz", ".p", ".pickle", ".pkl", ".pt", ".pth", ".py", ".so"})
"""Suffixes of files that bring code, or may: weights are safetensors."""

_log = logging.getLogger("sightline.torch")


class Opened:
    """A version with its weights in memory. ``holders`` are the connections that want it."""

    def __init__(self, card: Card, program: Program) -> None:
        self.card = card
        self.program = program
        self.holders: set[object] = set()
        self._dtypes = {spec.name: DTYPES[spec.datatype] for spec in card.outputs}
        self._ranks = {spec.name: len(spec.shape) for spec in card.outputs}

    def check(self, outputs: Arrays) -> Arrays:
        """The outputs, which must be those of the card. Raises ``engine-failed``."""
        missing = [name for name in self._dtypes if name not in outputs]
        if missing:
            raise engine_failed(f"{self.card.name}: its program gave no output {missing[0]!r}.")
        return self.check_part(outputs)

    def check_part(self, outputs: Arrays) -> Arrays:
        """Some of the outputs, which must be those of the card. Raises ``engine-failed``."""
        for name, array in outputs.items():
            dtype = self._dtypes.get(name)
            if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != self._ranks[name]:
                what = f"{array.dtype} of {array.ndim} axes" if isinstance(array, np.ndarray) else type(array).__name__
                raise engine_failed(f"{self.card.name}: its program gave {name!r} as {what}, unlike the card.")
        return outputs


class Versions:
    """Opens them, one at a time, in a thread. ``device`` is what programs compute on, ``None`` without PyTorch.

    ``programs`` is ``models.programs.PROGRAMS``, or that of a test.
    """

    def __init__(self, repository: Repository, programs: Mapping[str, str], device: str | None, memory: Memory) -> None:
        self._repository = repository
        self._programs = programs
        self._device = device
        self._memory = memory
        self._open: dict[Key, Opened] = {}
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="open")
        self._lock = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._open)

    def get(self, key: Key) -> Opened | None:
        return self._open.get(key)

    async def open(self, key: Key, holder: object) -> Opened:
        """Open it, unless it is, and hold it for ``holder``. Raises ``model-*`` and ``torch-missing``."""
        async with self._lock:
            found = self._open.get(key)
            if found is None:
                found = await asyncio.get_running_loop().run_in_executor(self._executor, self._load, key)
                self._open[key] = found
            found.holders.add(holder)
        return found

    def drop(self, key: Key, holder: object) -> None:
        """``holder`` needs it no more. What runs goes on; the memory is free when nobody needs it."""
        found = self._open.get(key)
        if found is not None:
            found.holders.discard(holder)
            if not found.holders:
                del self._open[key]
                _log.info("closed %s/%s", *key[:2])

    def drop_all(self, holder: object) -> None:
        for key in list(self._open):
            self.drop(key, holder)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _load(self, key: Key) -> Opened:
        name, version, digest = key
        where = f"{name}/{version}/{CARD_FILE}"
        began = time.monotonic()
        folder = self._repository.folder(name, version)
        card = self._repository.card(name, version)
        if hashlib.sha256((folder / CARD_FILE).read_bytes()).hexdigest() != digest:
            raise model_damaged(f"{where} is another one in the torch worker's repository.")

        self._repository.verify(name, version)
        unsafe = [file for file in card.files if PurePosixPath(file).suffix.lower() in CODE_CARRIERS]
        if unsafe:
            raise model_invalid(f"{where}: files: {unsafe[0]!r} may hold code.", "Store weights as safetensors.")

        opened = Opened(card, self._opening(card)(folder, card, self._required_device()))
        self._warm_up(opened)
        _log.info("opened %s/%s on %s in %.1f s", name, version, self._device, time.monotonic() - began)
        return opened

    def _opening(self, card: Card) -> Opening:
        program = card.engine.program or ""
        target = self._programs.get(program)
        if target is None:
            known = ", ".join(sorted(self._programs)) or "none"
            raise model_invalid(
                f"{card.name}/{card.version}/{CARD_FILE}: engine.program: there is no program {program!r}.",
                f"Install the release that the model was made for; this one's programs: {known}.",
            )
        module, _, function = target.partition(":")
        found: Opening = getattr(importlib.import_module(module), function)
        return found

    def _required_device(self) -> str:
        if self._device is None:
            raise Problem(
                Kind.CONFLICT,
                "torch-missing",
                "PyTorch is not installed",
                "The model needs the torch worker, and there is no PyTorch where that runs.",
                remedy="pip install 'sightline[train]', or set SIGHTLINE_TORCH_URL to a torch worker elsewhere.",
            )
        return self._device

    def _warm_up(self, opened: Opened) -> None:
        """Run the first step of one row of zeros: it is slow, and shows what does not work at all."""
        card = opened.card
        steps = opened.program.run(Signature(card).check(example(card, 1))[0], False)
        try:
            next(steps)
        except StopIteration as end:
            opened.check(end.value)
        except (ValueError, IndexError) as error:
            _log.info("%s/%s was not warmed up: %s", card.name, card.version, error)
        finally:
            steps.close()
