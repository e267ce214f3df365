"""A file server on a free port of this machine that breaks connections when told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class FileServer:
    """``files`` by path. ``die_after`` holds, for the next answers, after how many bytes the connection is cut."""

    files: dict[str, bytes] = field(default_factory=dict)
    die_after: list[int | None] = field(default_factory=list)
    ranges: bool = True
    status: list[int] = field(default_factory=list)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    port: int = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def answer(self, path: str, wanted: str | None) -> Answer:
        if self.status:
            return self.status.pop(0), {}, b""
        if path not in self.files:
            return 404, {}, b""
        body, extra = self.files[path], self.headers.get(path, {})
        if wanted is None or not self.ranges:
            return 200, extra, body
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(body):
            return 416, {}, b""
        return 206, {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}", **extra}, body[start:]


@contextmanager
def file_server(**files: bytes) -> Iterator[FileServer]:
    """Serve ``files`` as ``/name`` until the block ends."""
    state = FileServer({f"/{name}": body for name, body in files.items()})

    class Handler(BaseHTTPRequestHandler):
        def _serve(self, send_body: bool) -> None:
            path = self.path.partition("?")[0]
            state.requests.append((self.command, path, self.headers.get("Range")))
            status, headers, body = state.answer(path, self.headers.get("Range"))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            cut = state.die_after.pop(0) if state.die_after and send_body else None
            if send_body:
                self.wfile.write(body if cut is None else body[:cut])
            if cut is not None:
                self.wfile.flush()
                self.close_connection = True

        def do_GET(self) -> None:
            self._serve(True)

        def do_HEAD(self) -> None:
            self._serve(False)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
