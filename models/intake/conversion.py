"""From a published checkpoint to models of the repository: what every family's converter takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from models.catalog.card import Batching, Card, Measurement, Provenance
from models.catalog.geometry import ImagePreprocess
from models.catalog.releases import Release
from models.export.accuracy import Labelled
from models.export.precision import Precision
from models.progress import Progress
from models.repository.hashing import sha256
from models.repository.reading import MODEL

MAX_BATCH = 16


@dataclass(frozen=True, slots=True)
class Job:
    """One conversion: the release, the downloaded file, an empty folder to work in, labels for a 22K head, the
    precision to serve it in (see :func:`models.export.precision.choose`), and pictures to measure its cost on.

    ``beside`` are further files that the model is made of.
    """

    name: str
    release: Release
    file: Path
    scratch: Path
    progress: Progress
    labels: tuple[str, ...] = ()
    precision: Precision | None = None
    pictures: Labelled | None = None
    beside: tuple[Path, ...] = ()

    @property
    def image(self) -> ImagePreprocess:
        """The evaluation transform of the publications: shorter side, centre crop, ImageNet's mean and deviation."""
        return ImagePreprocess(size=self.release.image.size, resize=self.release.image.resize)

    @property
    def batching(self) -> Batching:
        """Sixteen pictures of the release's own size; larger pictures share a batch with fewer others."""
        side = self.release.image.size
        return Batching(max_batch_size=MAX_BATCH, max_elements=MAX_BATCH * 3 * side * side)

    @property
    def measured(self) -> tuple[Measurement, ...]:
        """The publisher's figures."""
        return tuple(
            Measurement(
                dataset=figure.dataset,
                metric=figure.metric,
                value=figure.value,
                by="publisher",
                source=self.release.paper,
                note="Of the published weights, which this model is converted from",
            )
            for figure in self.release.figures
        )

    @property
    def provenance(self) -> tuple[Provenance, ...]:
        """The file, and the host that states its hash where one does."""
        found = sha256(self.file)
        stated = [copy.address for copy in self.release.copies if copy.sha256 == found]
        source = stated[0] if stated else f"file:{self.file.name}"
        note = "" if stated else "No host states this hash; the weights were matched name by name and shape by shape"
        return (Provenance(source=source, member=self.file.name, sha256=found, note=note),)


def exported(target: Path) -> dict[str, Path | bytes]:
    """An exported file and, where its weights were too many for one, the file beside it."""
    beside = target.with_name(f"{target.name}.data")
    return {MODEL: target, **({beside.name: beside} if beside.exists() else {})}


@dataclass(frozen=True, slots=True)
class Version:
    """One model to be written."""

    card: Card
    files: Mapping[str, Path | bytes]
