"""Every refusal of the runtime, in one place: its code, its sentence and what to do about it."""

from __future__ import annotations

from services.errors import Kind, Problem


def model_not_found(model: str) -> Problem:
    return Problem(
        Kind.NOT_FOUND,
        "model-not-found",
        "There is no such model",
        f"The repository has no model {model[:80]!r}.",
        remedy="List the models with GET /v1/models, or add one with `sightline models pull`.",
    )


def version_not_found(model: str, version: str) -> Problem:
    return Problem(
        Kind.NOT_FOUND,
        "version-not-found",
        "There is no such version",
        f"Model {model!r} has no version {version[:20]!r}.",
        remedy="Leave the version out for the latest, or name one that the repository has.",
    )


def model_not_ready(model: str, reason: str, *, loading: bool = False) -> Problem:
    """``loading``: it will be ready without anybody doing anything."""
    load = f"An administrator can load it: POST /v2/repository/models/{model}/load."
    return Problem(
        Kind.UNAVAILABLE,
        "model-not-ready",
        "The model is not ready",
        f"Model {model!r}: {reason}",
        remedy="Wait until it is loaded." if loading else load,
        retry_after=1.0 if loading else 10.0,
    )


def model_unreachable(model: str, reason: str) -> Problem:
    """No server that runs it can do so just now; it is looked for all the time."""
    return Problem(
        Kind.UNAVAILABLE,
        "model-not-ready",
        "The model is not ready",
        f"Model {model!r}: {reason}.",
        remedy="Try again after the time given. If that does not help, look at the Triton servers named in /v1/models.",
        retry_after=2.0,
    )


def state_unwritable(error: OSError) -> Problem:
    return Problem(
        Kind.UNAVAILABLE,
        "state-unwritable",
        "The wanted state of the models cannot be written",
        f"control.json in the data folder: {error.strerror}. Nothing was changed.",
        remedy="Make room on the disk, or the folder writable.",
        retry_after=10.0,
    )


def model_invalid(detail: str, remedy: str) -> Problem:
    """``detail`` names file and field."""
    return Problem(Kind.INVALID, "model-invalid", "The model cannot be served as it is", detail, remedy=remedy)


def model_damaged(detail: str) -> Problem:
    return Problem(
        Kind.INVALID,
        "model-damaged",
        "The model's files are not those of its card",
        detail,
        remedy="Remove the model and pull or import it again.",
    )


def model_file_unreadable(model: str, file: str, why: str | None) -> Problem:
    """A file that is read when it is first needed, of a model that is served: somebody has removed it."""
    return Problem(
        Kind.UNAVAILABLE,
        "model-file-unreadable",
        "A file of the model cannot be read",
        f"{file} of {model!r}: {why or 'it cannot be read'}.",
        remedy="Pull or import the model again, and load it.",
        retry_after=10.0,
    )


def model_is_pipeline(model: str, kind: str) -> Problem:
    return Problem(
        Kind.INVALID,
        "model-is-pipeline",
        "The model has no tensors of its own",
        f"{model!r} is a pipeline of kind {kind!r}: other models and code around them.",
        remedy="Send it a task request (POST /v1/classify, for example), or use its component models.",
    )


def model_closing() -> Problem:
    return Problem(
        Kind.UNAVAILABLE, "model-closing", "The server is stopping", remedy="Retry on another server.", retry_after=1.0
    )


def worker_lost(model: str) -> Problem:
    """The process that computed has ended; it is started again."""
    return Problem(
        Kind.UNAVAILABLE,
        "torch-worker-lost",
        "The process that computed this has ended",
        f"The torch worker ended while it ran {model!r}. It is started again.",
        remedy="Try again after the time given. If that does not help, see the server's log for why it ended.",
        retry_after=2.0,
    )


def worker_away(model: str, reason: str) -> Problem:
    """The torch worker cannot be reached, or does not come up; it is tried again all the time."""
    return Problem(
        Kind.UNAVAILABLE,
        "model-not-ready",
        "The model is not ready",
        f"Model {model!r}: {reason}.",
        remedy="Try again after the time given. If that does not help, see the torch worker's log.",
        retry_after=5.0,
    )


def memory_exceeded(limit: int, detail: str) -> Problem:
    """``limit`` in bytes; 0 when it was the device that had no more."""
    what = "The device has no more memory"
    if limit:
        what = f"The torch worker may use {limit / 2**20:,.0f} MiB (SIGHTLINE_TORCH_MEMORY_BYTES)"
    return Problem(
        Kind.TOO_LARGE,
        "torch-memory-exceeded",
        "The request needs more memory than there is",
        f"{what}: {detail}",
        remedy="Send fewer rows or ask for fewer steps at once"
        + (", or set SIGHTLINE_TORCH_MEMORY_BYTES higher and start the worker again." if limit else "."),
    )


def deadline_exceeded(detail: str = "") -> Problem:
    """``detail`` says how far a request came that had started."""
    return Problem(
        Kind.DEADLINE,
        "deadline-exceeded",
        "The request could not start before its deadline" if not detail else "The request was not done in time",
        detail,
        remedy="Retry when the server is less busy, or allow more time.",
    )


def queue_full(detail: str, wait: float | None) -> Problem:
    """``wait``: seconds until what is ahead is done, when it is known."""
    return Problem(
        Kind.TOO_MANY,
        "queue-full",
        "The model's queue is full",
        detail,
        remedy="Retry after the time given, or add capacity.",
        retry_after=min(max(wait, 0.05), 60.0) if wait is not None else 1.0,
    )


def tensor_problem(code: str, title: str, detail: str, remedy: str) -> Problem:
    """``code`` is ``tensor-missing``, ``-unknown``, ``-type``, ``-shape`` or ``-value``."""
    return Problem(Kind.INVALID, code, title, detail, remedy=remedy)


def inference_failed(detail: str) -> Problem:
    """The engine refused these values, such as a token id outside the vocabulary."""
    return Problem(
        Kind.INVALID,
        "tensor-value",
        "The model cannot compute with these values",
        detail,
        remedy="Check the range of ids and indices against the model's card.",
    )


def engine_failed(detail: str) -> Problem:
    return Problem(Kind.INTERNAL, "engine-failed", "The engine failed", detail, remedy="See the server's log.")
