"""How much memory the worker may use, and what happens at the limit: that request fails, and nothing else.

On a processor the kernel itself refuses memory beyond the limit (``RLIMIT_DATA``: what the process writes to, not the
files that it maps), which PyTorch tells as an error. CUDA maps far more than it uses, so there the process's resident
memory is looked at between steps, and PyTorch's own limit is that of the device.
"""

from __future__ import annotations

import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

from services.errors import Problem
from services.runtime.problems import memory_exceeded

_PAGE = os.sysconf("SC_PAGE_SIZE")
_WORDS = ("can't allocate memory", "out of memory", "not enough memory", "bad_alloc", "Cannot allocate memory")


@dataclass(frozen=True, slots=True)
class Memory:
    """``limit`` bytes of this process; 0 is unlimited."""

    limit: int

    def enforce(self, device: str) -> None:
        """From here on. PyTorch must have been imported: its libraries count."""
        if self.limit and device == "cpu" and sys.platform.startswith("linux"):
            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            most = self.limit if hard == resource.RLIM_INFINITY else min(self.limit, hard)
            resource.setrlimit(resource.RLIMIT_DATA, (most, hard))

    def check(self) -> None:
        """Raise ``torch-memory-exceeded`` if more is resident than may be: between two steps."""
        if self.limit and (used := resident()) > self.limit:
            raise memory_exceeded(self.limit, f"{used / 2**20:,.0f} MiB are in use.")

    def problem_of(self, error: BaseException) -> Problem | None:
        """The problem that an exception tells of, when it is one of memory."""
        text = str(error)
        if not isinstance(error, MemoryError) and not any(word in text for word in _WORDS):
            return None
        of_device = "CUDA" in text
        return memory_exceeded(0 if of_device else self.limit, text.partition("\n")[0][:300] or "there is none left.")


def resident() -> int:
    """Bytes of this process in memory; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0
