"""Content of the platform: files in, and what jobs made out. Its methods are those of ``client.jobs``."""

from __future__ import annotations

from pathlib import Path

import httpx

from sightline.client.connection import pause_after_loss, pause_after_refusal
from sightline.client.errors import APIError
from sightline.client.halves import CHUNK, N, call
from sightline.client.job_results import Artifact, artifact_of
from sightline.client.resource import Resource, json_of, read_answer


class Artifacts(Resource[N]):
    @call
    async def upload(self, content: Path | str | bytes, name: str | None = None) -> Artifact:
        """Upload a file (a path) or bytes, to be named in jobs and requests by ``.reference``.

        >>> client = Client()
        >>> kept = client.jobs.upload(b"a,b", "letters.csv")
        >>> kept.size, client.jobs.read(kept)
        (3, b'a,b')
        """
        if isinstance(content, bytes):
            sent: bytes | Path = content
            size, called = len(content), name or "upload"
        else:
            sent = Path(content)
            size, called = sent.stat().st_size, name or sent.name

        response = await self._send(
            "POST",
            "/v1/artifacts",
            content=sent,
            headers={"content-type": "application/octet-stream", "content-length": str(size)},
            params={"name": called},
        )
        return read_answer(response, lambda response: artifact_of(json_of(response)))

    @call
    async def download(self, artifact: Artifact, to: Path | str) -> Path:
        """The content of an artifact as the file ``to``; a download that breaks is taken up where it stopped.

        The file appears when it is whole.
        """
        target = Path(to)
        part = target.with_name(target.name + ".part")
        part.unlink(missing_ok=True)
        attempt = 0

        with part.open("wb") as file:
            while file.tell() < artifact.size:
                attempt += 1
                headers = {"range": f"bytes={file.tell()}-", "if-range": f'"{artifact.sha256}"'}
                try:
                    async with self._open("GET", artifact.url, headers=headers) as response:
                        if not response.is_success:
                            await response.aread()
                            await self._network.sleep(pause_after_refusal(response, self._retries, attempt))
                            continue
                        if response.status_code == 200:
                            file.seek(0)
                            file.truncate()
                        async for chunk in response.aiter_bytes(CHUNK):
                            file.write(chunk)
                            attempt = 0
                except httpx.TransportError as error:
                    await self._network.sleep(pause_after_loss(error, self._retries, max(1, attempt)))

        part.replace(target)
        return target

    @call
    async def read(self, artifact: Artifact) -> bytes:
        """The content of an artifact, in memory."""
        async with self._open("GET", artifact.url) as response:
            await response.aread()
        if not response.is_success:
            raise APIError.of(response)
        return response.content
