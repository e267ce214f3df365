"""Files of a model hub's repository at one pinned commit."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.catalog.lock import HubSource
from models.errors import SourceError
from models.progress import Progress

if TYPE_CHECKING:
    from tqdm.auto import tqdm


def fetch_files(source: HubSource, folder: Path, progress: Progress) -> dict[str, Path]:
    """Return where each member's file is now, by the member's name; not checked yet.

    Needs the ``huggingface-hub`` package (extra ``train``).
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise SourceError("huggingface-hub is not installed", "pip install 'sightline[train]'")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    found = {}
    for member in source.members:
        stage = f"download {source.address} {member.path}"
        try:
            path = hf_hub_download(
                source.repository,
                member.path or member.name,
                revision=source.revision,
                endpoint=source.endpoint,
                local_dir=folder,
                tqdm_class=_reporting(stage, member.size, progress),
            )
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise SourceError(
                f"{source.address} {member.path}: {error}", "check the network, then pull again"
            ) from error
        found[member.name] = Path(path)
    return found


def _reporting(stage: str, size: int, progress: Progress) -> type[tqdm]:
    """The hub draws bars itself; this one draws nothing and passes on."""
    from tqdm.auto import tqdm

    class Reporting(tqdm):  # type: ignore[misc]  # it has no types
        def __init__(self, *arguments: object, **options: Any) -> None:
            self.done = int(options.get("initial") or 0)
            super().__init__(*arguments, **options | {"disable": True})
            progress(stage, self.done, size)

        def update(self, n: float | None = 1) -> bool | None:
            self.done += int(n or 0)
            progress(stage, min(self.done, size), size)
            return None

    return Reporting
