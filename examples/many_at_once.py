"""Many requests in flight from one process: ``python many_at_once.py PHOTO COUNT 'a cat' 'a dog' ...``.

The client waits and asks again when the platform answers 429, so that no request is lost to load.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from sightline import AsyncClient


async def main(photo: bytes, count: int, labels: list[str]) -> None:
    at_once = asyncio.Semaphore(32)
    async with AsyncClient() as client:

        async def ask() -> str:
            async with at_once:
                answer = await client.classify(photo, labels)
            best = answer[0].best
            return best.label if best else "nothing"

        begin = time.perf_counter()
        answers = await asyncio.gather(*(ask() for _ in range(count)))
        seconds = time.perf_counter() - begin
    print(f"{count} answers in {seconds:.2f} s, {count / seconds:.0f} a second: {', '.join(sorted(set(answers)))}")


asyncio.run(main(Path(sys.argv[1]).read_bytes(), int(sys.argv[2]), sys.argv[3:]))
