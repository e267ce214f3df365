"""Published RegionCLIP files to a served open-vocabulary detector."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from models import catalog
from models.catalog.card import Engine, Provenance
from models.catalog.geometry import ShorterSide
from models.errors import ModelError
from models.intake.conversion import Job, Version, exported
from models.regionclip.cards import Role, Served, cards, pipeline
from models.regionclip.checkpoint import Merged, read
from models.regionclip.export import MEAN, STD, export_anchors, export_maps, export_regions, export_text
from models.regionclip.network import RegionCLIP
from models.regionclip.variants import VARIANTS
from models.repository.hashing import sha256
from models.repository.reading import MODEL
from models.text.clip_bpe import clip_tokenizer_json

TEMPLATES = Path(catalog.__file__).parent / "templates" / "imagenet-7.txt"
"""What a name is put into. The publication takes 81 templates, which cost eleven times as much for every new label."""


def convert(job: Job) -> Iterator[Version]:
    """``NAME-maps``, ``NAME-anchors``, ``NAME-regions``, ``NAME-text`` and ``NAME``.

    ``job.beside`` are the files of parts that the release's own lacks. Raises :class:`models.errors.ModelError`.
    """
    if job.precision not in (None, "fp32"):
        raise ModelError(
            f"RegionCLIP is served in fp32, not in {job.precision}: its temperature makes rounding another class",
            "Leave the precision out.",
        )
    job.progress("read weights", 0, 5)
    network, merged = read((job.file, *job.beside), VARIANTS[job.release.variant])
    files = dict(_export(job, network))

    assert network.config.proposals is not None
    served = Served(
        name=job.name,
        title=job.release.title,
        description=(
            f"Finds whatever a request names, or shows an example of ({job.release.paper}), trained on "
            f"{job.release.trained_on}. Boxes come from a proposal network, texts and regions share one space."
        ),
        image=ShorterSide(size=job.release.image.size, max_size=job.release.image.resize, mean=MEAN, std=STD),
        templates=[line for line in TEMPLATES.read_text("utf-8").splitlines() if line and not line.startswith("#")],
        multiply=bool(job.release.flags.get("multiply_objectness", True)),
        licence=job.release.licence,
        engines={role: engine for role, (_, engine) in files.items()},
        provenance=tuple(_provenance(job, merged)),
        measured=job.measured,
        limits=tuple(filter(None, (job.release.note,))),
    )
    parts = cards(network.config, served)
    for role, card in parts.items():
        tokenizer = {"tokenizer.json": clip_tokenizer_json().encode()} if role == "text" else {}
        yield Version(card, {**exported(files[role][0]), **tokenizer})
    yield Version(pipeline(served, parts, network.config.proposals.most), {})


def _export(job: Job, network: RegionCLIP) -> Iterator[tuple[Role, tuple[Path, Engine]]]:
    assert network.lang_encoder is not None
    encoder = network.lang_encoder
    steps: tuple[tuple[Role, str], ...] = (
        ("maps", "pictures"),
        ("anchors", "proposals"),
        ("regions", "regions"),
        ("text", "texts"),
    )
    for number, (role, what) in enumerate(steps, 1):
        job.progress(f"export and verify {what}", number, 5)
        target = job.scratch / role / MODEL
        target.parent.mkdir()
        match role:
            case "maps":
                errors = export_maps(network, target)
            case "anchors":
                errors = export_anchors(network, target)
            case "regions":
                errors = export_regions(network, target)
            case _:
                errors = export_text(encoder, target)
        yield role, (target, Engine(reason=f"Exact: {max(errors.values()):.1e} of the largest value from PyTorch"))


def _provenance(job: Job, merged: Merged) -> Iterator[Provenance]:
    """One entry a file, with the parts that were taken from it."""
    for file in (job.file, *job.beside):
        parts = [part for part, origin in merged.origins.items() if origin == file.name]
        if parts:
            note = f"{' and '.join(parts)}; no host states this hash, every weight was matched by name and shape"
            yield Provenance(source=f"file:{file.name}", member=file.name, sha256=sha256(file), note=note)
