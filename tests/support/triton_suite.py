"""Lets tests that were written for the embedded engines run over one real tritonserver, which all of them share.

The server's repository takes the place of each test's own. What a test adds to it is removed again, so that the next
one finds the four tiny models and nothing else.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from services.settings import Settings
from tests.support import tiny_models
from tests.support.triton_server import TritonServer, triton


class Shared:
    """One server over a repository of the tiny models."""

    def __init__(self, server: TritonServer, root: Path) -> None:
        self.server = server
        self.root = root
        self._folders = self._all()

    def settings(self, data: Path, **changes: object) -> Settings:
        """Settings of a gateway over the server, whose models are those of the server's repository."""
        data.mkdir(parents=True, exist_ok=True)
        (data / "models").symlink_to(self.root)
        fields = {"log_level": "warning", "port": 0, "runtime": "triton", "triton_urls": (self.server.grpc,)}
        fields["triton_batches"] = 1  # some tests watch the order in which requests leave the queue
        return Settings(data_dir=data, **{**fields, **changes})  # type: ignore[arg-type]

    def restore(self) -> None:
        """Remove every model and version that was not there at first, here and from the server."""
        added = sorted(self._all() - self._folders, reverse=True)
        for folder in added:
            shutil.rmtree(self.root / folder)
        known = {folder for folder in self._folders if "/" not in folder}
        for name in {folder.partition("/")[0] for folder in added}:
            # A load alone may find nothing to do, and leave the removed version where it is.
            self._ask(name, "unload")
            if name in known:
                self._ask(name, "load")

    def _ask(self, name: str, action: str) -> None:
        httpx.post(f"{self.server.url}/v2/repository/models/{name}/{action}", json={}, timeout=30).raise_for_status()
        end = time.monotonic() + 20
        while "UNLOADING" in self.server.states().values() and time.monotonic() < end:
            time.sleep(0.05)

    def _all(self) -> set[str]:
        folders = [path for path in (*self.root.glob("*"), *self.root.glob("*/*")) if path.is_dir()]
        return {str(path.relative_to(self.root)) for path in folders}


@contextmanager
def shared(folder: Path) -> Iterator[Shared]:
    """A server that is ready."""
    root = tiny_models.add_all(folder / "models")
    with triton(root) as server:
        yield Shared(server, root)
