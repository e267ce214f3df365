"""A growing output of a job: appended to, made safe piece by piece with each checkpoint, published whole at the end.

What an attempt wrote after its last checkpoint is forgotten with the attempt, and written again by the next: the
output holds every byte once, however often workers died.
"""

from __future__ import annotations

from services.storage.artifacts import Artifact, ArtifactStore
from services.storage.drafts import Draft


class OutputStream:
    """Bytes in, a segment with each checkpoint, one artifact in the end."""

    def __init__(self, store: ArtifactStore, job_id: str, name: str, media_type: str) -> None:
        self.name = name
        self.media_type = media_type
        self.pending: Draft = store.draft()
        self._store = store
        self._job_id = job_id
        kept = self._kept()
        self._segments = len(kept)
        self._committed = sum(segment.size for segment in kept)

    @property
    def size(self) -> int:
        """Bytes so far, those of earlier attempts included."""
        return self._committed + self.pending.size

    @property
    def segment(self) -> str:
        """The name of the segment that the next checkpoint makes."""
        return f"{self.name}/{self._segments:08d}"

    def write(self, data: bytes) -> None:
        """Append. Raises ``storage-full``."""
        self.pending.write(data)

    def commit(self) -> None:
        """A checkpoint made ``pending`` safe: begin the next segment."""
        self._committed += self.pending.size
        self._segments += 1
        self.pending.discard()
        self.pending = self._store.draft()

    def assemble(self) -> Draft:
        """The whole content as a draft, for the end of the job. Nothing can be written afterwards."""
        self.pending.finish()
        whole = self._store.draft()
        try:
            for segment in self._kept():
                for chunk in self._store.read(segment):
                    whole.write(chunk)
            with self.pending.path.open("rb") as rest:
                while chunk := rest.read(1 << 18):
                    whole.write(chunk)
        except BaseException:
            whole.discard()
            raise

        return whole

    def discard(self) -> None:
        self.pending.discard()

    def _kept(self) -> list[Artifact]:
        prefix = f"{self.name}/"
        return [made for made in self._store.of_job(self._job_id, "segment") if made.name.startswith(prefix)]
