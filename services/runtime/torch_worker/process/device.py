"""PyTorch in this process: where it computes, with how many threads, with how much memory."""

from __future__ import annotations

import logging

from services.runtime.onnx.cores import threads_for
from services.runtime.torch_worker.process.memory import Memory
from services.settings import Settings

_log = logging.getLogger("sightline.torch")


def prepare(settings: Settings, memory: Memory) -> str | None:
    """Import PyTorch and set it up; the device that programs are to use, ``None`` where there is no PyTorch."""
    try:
        import torch
    except ImportError as error:
        _log.error("PyTorch cannot be imported: %s", error)
        return None
    wanted, available = settings.torch_device, torch.cuda.is_available()
    if wanted.startswith("cuda") and not available:
        _log.error("SIGHTLINE_TORCH_DEVICE is %s, and PyTorch finds no such device: it computes on the CPU", wanted)
    device = "cpu" if wanted == "cpu" or not available else "cuda:0" if wanted in ("auto", "cuda") else wanted
    torch.set_num_threads(threads_for(settings.torch_threads, settings.torch_concurrency))
    memory.enforce(device)
    return device
