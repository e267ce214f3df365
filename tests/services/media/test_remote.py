"""Remote images against a real TLS server on loopback; only name resolution and the last hop are swapped."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import httpcore
import pytest
import trustme

from services.errors import Kind, Problem
from services.media.remote import RemoteImages
from services.settings import Settings

PUBLIC = "93.184.215.14"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Internet(httpcore.AsyncNetworkBackend):
    """Name records, and one server that stands behind every public address."""

    def __init__(self, port: int) -> None:
        self.records: dict[str, list[str]] = {"img.example": [PUBLIC], "other.example": ["8.8.8.8"]}
        self.port = port
        self.looked_up: list[str] = []
        self.dialled: list[tuple[str, int]] = []
        self.dead: set[str] = set()
        self._real = httpcore.AnyIOBackend()

    async def resolve(self, host: str, port: int) -> list[str]:
        self.looked_up.append(host)
        if host not in self.records:
            raise OSError("no such host")
        return self.records[host]

    async def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):  # noqa: ASYNC109
        self.dialled.append((host, port))
        if host in self.dead:
            raise httpcore.ConnectError("dead")
        return await self._real.connect_tcp("127.0.0.1", self.port, timeout)


class Server:
    """Scripted answers by path; keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes | Handler] = {}
        self.requests: list[str] = []
        self.names: list[str | None] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(request)
            answer = self.answers[request.split()[1]]
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def ok(body: bytes, *fields: str) -> bytes:
    head = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", "Connection: close", *fields]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def moved(to: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Moved\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def server(authority: trustme.CA) -> AsyncIterator[tuple[Server, int]]:
    site = Server()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("img.example", "other.example").configure_cert(context)
    context.sni_callback = lambda _socket, name, _context: site.names.append(name)
    listening = await asyncio.start_server(site.serve, "127.0.0.1", 0, ssl=context)
    yield site, listening.sockets[0].getsockname()[1]
    listening.close()


class Setup:
    def __init__(self, site: Server, internet: Internet, authority: trustme.CA) -> None:
        self.site, self.internet, self._authority = site, internet, authority
        self.blocked: list[str] = []
        self.made: list[RemoteImages] = []

    def images(self, **changes: object) -> RemoteImages:
        trust = ssl.create_default_context()
        self._authority.configure_trust(trust)
        settings = Settings(**{"fetch_images": True, "max_image_bytes": 5000, "fetch_timeout": 5, **changes})
        images = RemoteImages(
            settings,
            blocked=self.blocked.append,
            resolver=self.internet.resolve,
            connector=self.internet,
            trust=trust,
        )
        self.made.append(images)
        return images

    async def refused(self, url: str, **changes: object) -> Problem:
        with pytest.raises(Problem) as caught:
            await self.images(**changes).fetch(url)
        return caught.value


@pytest.fixture
async def net(server: tuple[Server, int], authority: trustme.CA) -> AsyncIterator[Setup]:
    site, port = server
    setup = Setup(site, Internet(port), authority)
    yield setup
    for images in setup.made:
        await images.aclose()


async def test_an_image_is_fetched_from_the_address_that_was_checked(net: Setup):
    net.site.answers["/a.png?x=1"] = ok(b"pixels")
    assert await net.images().fetch("https://img.example/a.png?x=1#part") == b"pixels"
    assert net.internet.looked_up == ["img.example"]
    assert net.internet.dialled == [(PUBLIC, 443)]
    assert net.site.names == ["img.example"]
    request = net.site.requests[0].lower()
    assert "host: img.example\r\n" in request
    assert "cookie" not in request and "authorization" not in request
    assert net.blocked == []


async def test_nothing_is_fetched_unless_switched_on(net: Setup):
    problem = await net.refused("https://img.example/a.png", fetch_images=False)
    assert (problem.kind, problem.code) == (Kind.INVALID, "image-url-disabled")
    assert net.internet.looked_up == []
    assert net.blocked == ["disabled"]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://img.example/a.png", "scheme"),
        ("ftp://img.example/a.png", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("gopher://img.example/", "scheme"),
        ("//img.example/a.png", "scheme"),
        ("img.example/a.png", "scheme"),
        ("https://user:secret@img.example/a.png", "credentials"),
        ("https://user@img.example/a.png", "credentials"),
        ("https://img.example:8443/a.png", "port"),
        ("https://img.example:22/", "port"),
        ("https:///a.png", "host"),
        ("https://", "host"),
    ],
)
async def test_addresses_of_the_wrong_form_are_blocked(net: Setup, url: str, reason: str):
    problem = await net.refused(url)
    assert (problem.kind, problem.code) == (Kind.INVALID, "image-url-blocked")
    assert net.blocked == [reason]
    assert net.internet.looked_up == []


@pytest.mark.parametrize(
    "url", ["https://img.example/\x00", "https://[::1/", "https://img.example:port/", "https://x/" + "a" * 5000]
)
async def test_what_is_not_a_url_is_invalid(net: Setup, url: str):
    assert (await net.refused(url)).code == "image-url-invalid"
    assert net.blocked == ["url"]
    assert net.internet.dialled == []


@pytest.mark.parametrize(
    "answers",
    [["127.0.0.1"], ["10.0.0.1"], ["169.254.169.254"], ["::1"], ["::ffff:127.0.0.1"], [PUBLIC, "192.168.0.1"], []],
)
async def test_a_host_with_any_private_address_is_blocked(net: Setup, answers: list[str]):
    net.internet.records["img.example"] = answers
    problem = await net.refused("https://img.example/a.png")
    assert problem.code == "image-url-blocked"
    assert not any(answer in problem.detail for answer in answers)
    assert net.internet.dialled == []
    assert net.blocked == ["address"]


async def test_an_unknown_host_looks_like_a_private_one(net: Setup):
    net.internet.records["img.example"] = ["10.0.0.1"]
    unknown = await net.refused("https://nowhere.example/a.png")
    private = await net.refused("https://img.example/a.png")
    assert (unknown.code, unknown.detail) == (private.code, private.detail)


async def test_real_resolution_blocks_loopback_in_every_notation(net: Setup):
    for host in ("127.0.0.1", "0x7f000001", "2130706433", "[::1]", "localhost", "localhost."):
        images = RemoteImages(Settings(fetch_images=True), blocked=net.blocked.append)
        with pytest.raises(Problem) as caught:
            await images.fetch(f"https://{host}/")
        await images.aclose()
        assert caught.value.code == "image-url-blocked", host
    assert net.blocked == ["address"] * 6


async def test_a_host_that_changes_its_address_after_the_check_gains_nothing(net: Setup):
    """Rebinding: the second look-up would be private, and there is none."""
    net.site.answers["/a.png"] = ok(b"pixels")
    answers = [[PUBLIC], ["127.0.0.1"]]

    async def rebinding(host: str, port: int) -> list[str]:
        return answers.pop(0)

    net.internet.resolve = rebinding  # type: ignore[method-assign]
    assert await net.images().fetch("https://img.example/a.png") == b"pixels"
    assert net.internet.dialled == [(PUBLIC, 443)]
    assert len(answers) == 1


async def test_the_next_address_is_tried_when_one_is_dead(net: Setup):
    net.site.answers["/a.png"] = ok(b"pixels")
    net.internet.records["img.example"] = ["8.8.4.4", PUBLIC]
    net.internet.dead.add("8.8.4.4")
    assert await net.images().fetch("https://img.example/a.png") == b"pixels"
    net.internet.dead.add(PUBLIC)
    assert (await net.refused("https://img.example/a.png")).code == "image-url-unreachable"


async def test_a_certificate_for_another_name_is_refused(net: Setup):
    net.internet.records["evil.example"] = [PUBLIC]
    assert (await net.refused("https://evil.example/a.png")).code == "image-url-unreachable"
    assert net.site.requests == []


async def test_redirects_are_followed_and_checked_like_the_first_address(net: Setup):
    net.site.answers |= {
        "/1": moved("https://other.example/2", 301),
        "/2": moved("3", 307),
        "/3": moved("/4", 308),
        "/4": ok(b"pixels"),
    }
    assert await net.images().fetch("https://img.example/1") == b"pixels"
    assert net.internet.looked_up[:2] == ["img.example", "other.example"]
    assert net.internet.dialled[1] == ("8.8.8.8", 443)


async def test_too_many_redirects_are_blocked(net: Setup):
    net.site.answers["/"] = moved("/")
    problem = await net.refused("https://img.example/", fetch_redirects=2)
    assert problem.code == "image-url-blocked"
    assert len(net.site.requests) == 3
    assert net.blocked == ["redirects"]
    assert (await net.refused("https://img.example/", fetch_redirects=0)).code == "image-url-blocked"
    assert len(net.site.requests) == 4


@pytest.mark.parametrize(
    ("to", "reason"),
    [
        ("http://img.example/", "scheme"),
        ("https://img.example:6379/", "port"),
        ("https://u:p@img.example/", "credentials"),
        ("https://inside.example/", "address"),
        ("file:///etc/passwd", "scheme"),
        ("https://[::1", "url"),
    ],
)
async def test_a_redirect_to_a_forbidden_place_is_blocked(net: Setup, to: str, reason: str):
    net.internet.records["inside.example"] = ["10.0.0.7"]
    net.site.answers["/"] = moved(to)
    await net.refused("https://img.example/")
    assert net.blocked == [reason]
    assert net.internet.dialled == [(PUBLIC, 443)]


async def test_only_named_hosts_when_any_is_named(net: Setup):
    net.site.answers["/a"] = ok(b"pixels")
    net.internet.records |= {"a.cdn.example": ["8.8.8.8"]}
    assert await net.images(fetch_hosts=("IMG.example.",)).fetch("https://img.EXAMPLE/a") == b"pixels"
    for hosts in (("other.example",), ("*.img.example",), ("mg.example",), ("*.cdn.example", "x")):
        assert (await net.refused("https://img.example/a", fetch_hosts=hosts)).code == "image-url-blocked"
    assert net.blocked == ["host"] * 4
    # Let through by the pattern, then stopped by its certificate: the server has none for that name.
    problem = await net.refused("https://a.cdn.example/a", fetch_hosts=("*.cdn.example",))
    assert problem.code == "image-url-unreachable"


async def test_a_body_that_is_announced_too_large_is_not_read(net: Setup):
    net.site.answers["/"] = ok(bytes(5001))
    problem = await net.refused("https://img.example/")
    assert (problem.kind, problem.code) == (Kind.TOO_LARGE, "image-too-large")
    net.site.answers["/"] = ok(bytes(5000))
    assert len(await net.images().fetch("https://img.example/")) == 5000
    assert net.blocked == ["size"]


async def test_a_body_without_end_is_cut_at_the_cap(net: Setup):
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while sent < 1 << 24:
            writer.write(b"400\r\n" + bytes(1024) + b"\r\n")
            await writer.drain()
            sent += 1024

    net.site.answers["/"] = endless
    assert (await net.refused("https://img.example/")).code == "image-too-large"
    assert sent < 1 << 23


async def test_the_deadline_covers_everything_together(net: Setup):
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n")
        for _ in range(400):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    net.site.answers["/"] = drip
    begin = time.perf_counter()
    problem = await net.refused("https://img.example/", fetch_timeout=0.3)
    assert problem.code == "image-url-timeout"
    assert time.perf_counter() - begin < 2


async def test_a_slow_name_server_is_inside_the_deadline(net: Setup):
    async def slow(host: str, port: int) -> list[str]:
        await asyncio.sleep(30)
        return [PUBLIC]

    net.internet.resolve = slow  # type: ignore[method-assign]
    assert (await net.refused("https://img.example/", fetch_timeout=0.2)).code == "image-url-timeout"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "image-url-status"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", "image-url-status"),
        (b"HTTP/1.1 204 Nothing\r\n\r\n", "image-url-status"),
        (b"HTTP/1.1 302 Nowhere\r\nContent-Length: 0\r\n\r\n", "image-url-status"),
        (ok(b"pixels", "Content-Encoding: gzip"), "image-url-status"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", "image-url-unreachable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "image-url-unreachable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "image-url-unreachable"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "image-url-unreachable"),
        (b"", "image-url-unreachable"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 300_000 + b"\r\n\r\n", "image-url-unreachable"),
        (ok(b""), "image-empty"),
    ],
)
async def test_bad_answers_are_the_callers_problem(net: Setup, answer: bytes, code: str):
    net.site.answers["/"] = answer
    problem = await net.refused("https://img.example/")
    assert (problem.kind, problem.code) == (Kind.INVALID, code)


async def test_proxies_of_the_environment_are_not_used(net: Setup, monkeypatch: pytest.MonkeyPatch):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    net.site.answers["/a"] = ok(b"pixels")
    assert await net.images().fetch("https://img.example/a") == b"pixels"


async def test_many_at_once_share_few_connections(net: Setup):
    net.site.answers["/a"] = ok(b"pixels")
    images = net.images(fetch_timeout=20)
    assert await asyncio.gather(*(images.fetch("https://img.example/a") for _ in range(40))) == [b"pixels"] * 40
