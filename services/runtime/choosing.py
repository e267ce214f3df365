"""Which backend ``SIGHTLINE_RUNTIME`` asks for. What the other one needs is neither imported nor looked for."""

from __future__ import annotations

from services.errors import Kind, Problem
from services.runtime.onnx.backend import OnnxBackend
from services.runtime.protocol import Backend
from services.runtime.served import Observer
from services.settings import Settings


def open_backend(settings: Settings, observer: Observer) -> Backend:
    """The backend, not yet started. Raises ``triton-urls-missing`` and ``tritonclient-missing``."""
    if settings.runtime == "onnx":
        return OnnxBackend(settings, observer=observer)
    if not settings.triton_urls:
        raise Problem(
            Kind.CONFLICT,
            "triton-urls-missing",
            "No Triton server is named",
            "SIGHTLINE_RUNTIME is triton, and SIGHTLINE_TRITON_URLS is empty.",
            remedy="Set SIGHTLINE_TRITON_URLS to the servers' gRPC addresses, host:port,host:port.",
        )

    try:
        from services.runtime.triton.backend import TritonBackend
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("tritonclient", "grpc", "google"):
            raise
        raise Problem(
            Kind.CONFLICT,
            "tritonclient-missing",
            "The client of Triton is not installed",
            f"SIGHTLINE_RUNTIME is triton, and there is no module {error.name!r}.",
            remedy="pip install 'sightline[triton]', or set SIGHTLINE_RUNTIME to onnx.",
        ) from error

    return TritonBackend(settings, observer=observer)
