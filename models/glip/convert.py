"""A published GLIP checkpoint to four served models: text, picture, head, and the detector made of them."""

from __future__ import annotations

from collections.abc import Iterator

from models.glip.cards import cards
from models.glip.checkpoint import read
from models.glip.export import export_head, export_image, export_text
from models.intake.checkpoint import CheckpointError
from models.intake.conversion import Job, Version, exported
from models.repository.reading import MODEL
from models.text.bert_wordpiece import bert_tokenizer

TOKENIZER = "tokenizer.json"

WRITERS = {"text": export_text, "image": export_image, "head": export_head}


def convert(job: Job) -> Iterator[Version]:
    """``NAME-text``, ``NAME-image``, ``NAME-head`` and ``NAME``. Raises :class:`models.errors.ModelError`."""
    if job.labels:
        raise CheckpointError("GLIP has no classes of its own to be labelled", "Leave the labels out.")
    if job.precision not in (None, "fp32"):
        raise CheckpointError(f"GLIP is not served in {job.precision}", "Leave the precision out: it is fp32.")

    steps = len(WRITERS) + 2
    job.progress("read weights", 0, steps)
    network = read(job.file, job.release.variant)
    made = cards(network.config, job)

    for done, (role, write) in enumerate(WRITERS.items(), 1):
        job.progress(f"export and verify {role}", done, steps)
        target = job.scratch / role / MODEL
        target.parent.mkdir()
        write(network, target)
        files = exported(target)
        if role == "text":
            files[TOKENIZER] = bert_tokenizer().to_str().encode()
        yield Version(made[role], files)

    job.progress("write", steps - 1, steps)
    yield Version(made["detector"], {})
