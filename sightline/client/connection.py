"""What both clients share: where the platform is, who asks, and how failures read."""

from __future__ import annotations

import ipaddress
from typing import TypedDict
from urllib.parse import urlsplit

import httpx

from services.settings import ClientSettings
from sightline.client.errors import APIError, Unreachable
from sightline.client.retries import Retries, is_busy, is_lost


class HttpOptions(TypedDict):
    """The arguments that ``httpx.Client`` and ``httpx.AsyncClient`` get alike."""

    base_url: str
    headers: dict[str, str]
    timeout: httpx.Timeout
    trust_env: bool


def http_options(url: str | None, api_key: str | None, timeout: float) -> HttpOptions:
    """Read ``SIGHTLINE_URL`` and ``SIGHTLINE_API_KEY`` where the caller says nothing."""
    settings = ClientSettings()
    base = (url or settings.url).rstrip("/")
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Unreachable(base, "is no http:// or https:// address", "Give one like http://127.0.0.1:8000.")

    key = api_key or settings.api_key
    headers = {"Content-Type": "application/json", "User-Agent": "sightline-client"}
    if key:
        headers["Authorization"] = f"Bearer {key}"

    # A proxy of the environment cannot reach this machine's own loopback.
    return HttpOptions(
        base_url=base,
        headers=headers,
        timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0)),
        trust_env=not _is_local(parts.hostname),
    )


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def pause_after_loss(error: httpx.TransportError, retries: Retries, attempt: int) -> float:
    """Seconds to wait before sending again; raises :class:`Unreachable` when that makes no sense."""
    pause = retries.pause(attempt) if is_lost(error) else None
    if pause is None:
        raise unreachable(error) from error
    return pause


def pause_after_refusal(response: httpx.Response, retries: Retries, attempt: int) -> float:
    """Seconds to wait before asking again; raises :class:`APIError` when that makes no sense."""
    error = APIError.of(response)
    pause = retries.pause(attempt, error.retry_after) if is_busy(response) else None
    if pause is None:
        raise error
    return pause


def unreachable(error: httpx.TransportError) -> Unreachable:
    """``error`` in words for the person who called."""
    url = str(error.request.url.copy_with(path="/", query=None)).rstrip("/")
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return Unreachable(
            url,
            f"no server answers there ({error})" if str(error) else "no server answers there",
            "Start one with `sightline serve`, or say where it is: --url, or SIGHTLINE_URL.",
        )
    if isinstance(error, httpx.TimeoutException):
        return Unreachable(url, "no answer in time", "Allow more time, or send less at once.")
    return Unreachable(url, f"the connection broke ({error or type(error).__name__})")
