"""Broken and hostile requests, each with the status and the problem that it must be answered with."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from PIL import Image

Body = bytes | Callable[[], Iterator[bytes]]
CLASSIFY = "/v1/classify"
EMBEDDINGS = "/v1/embeddings"


@dataclass(frozen=True)
class Case:
    """One request. ``code`` is the problem's code; ``key`` the key to send: ``infer``, ``admin`` or a secret itself."""

    name: str
    status: int
    code: str
    body: Body = b""
    path: str = CLASSIFY
    method: str = "POST"
    type: str | None = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    pointer: str | None = None
    key: str | None = "infer"


def picture(form: str = "JPEG", size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    sink = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(sink, form, **options)
    return sink.getvalue()


def fax() -> bytes:
    sink = io.BytesIO()
    Image.new("1", (64, 48)).save(sink, "TIFF", compression="group4")
    return sink.getvalue()


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


@cache
def good() -> str:
    return text_of(picture())


def classify(**fields: Any) -> bytes:
    return json.dumps({"image": good()} | fields).encode()


def image(data: bytes) -> bytes:
    return json.dumps({"image": text_of(data)}).encode()


def raw_png(width: int, height: int, depth: int = 1, kind: int = 0, data: bytes | None = None) -> bytes:
    """A PNG whose header says what it is told to; its pixels are zeros, as many as that takes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    if data is None:
        packer = zlib.compressobj(9)
        row = b"\x00" * ((width * depth + 7) // 8 + 1)
        data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def many_frames(count: int) -> bytes:
    """A GIF of ``count`` frames of one pixel."""
    frame = b"!\xf9\x04\x00\x01\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00"
    return b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff" + frame * count + b";"


def form(*parts: tuple[str, bytes], end: bool = True) -> bytes:
    """A ``multipart/form-data`` body with the boundary ``b``."""
    body = b""
    for name, data in parts:
        body += f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="f"\r\n\r\n'.encode() + data + b"\r\n"
    return body + (b"--b--\r\n" if end else b"")


def endless() -> Iterator[bytes]:
    while True:
        yield b"x" * 65536


def dripping() -> Iterator[bytes]:
    import time

    for _ in range(1000):
        yield b" "
        time.sleep(0.05)


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
MULTIPART = "multipart/form-data; boundary=b"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'


def cases() -> list[Case]:
    """Every case; those that send much come last."""
    return [*_bodies(), *_images(), *_fields(), *_forms(), *_embeddings(), *_access(), *_paths(), *_large()]


def _bodies() -> list[Case]:
    return [
        Case("empty body", 400, "body-empty"),
        Case("not json", 400, "json-malformed", b"hello"),
        Case("truncated json", 400, "json-malformed", classify()[:-20]),
        Case("two objects", 400, "json-malformed", b"{}{}"),
        Case("invalid utf-8", 400, "json-malformed", b'{"image": "\xff\xfe"}'),
        Case("lone surrogate", 400, "json-malformed", b'{"model": "\\ud800"}'),
        Case("nan literal", 400, "json-malformed", b'{"threshold": NaN}'),
        Case("utf-16", 400, "json-malformed", '{"image": "x"}'.encode("utf-16")),
        Case("deep arrays", 400, "json-malformed", b"[" * 100_000),
        Case("deep objects", 400, "json-malformed", b'{"a":' * 100_000),
        Case("deep and closed", 400, "json-malformed", b'{"labels":' + b"[" * 5000 + b"]" * 5000 + b"}"),
        Case("array", 422, "field-type", b"[]", pointer=""),
        Case("string", 422, "field-type", b'"image"', pointer=""),
        Case("null", 422, "field-type", b"null", pointer=""),
        Case("wrong content type", 415, "content-type-unsupported", classify(), type="text/plain"),
        Case("form content type", 415, "content-type-unsupported", b"a=b", type="application/x-www-form-urlencoded"),
        Case("no content type", 415, "content-type-unsupported", classify(), type=None),
        Case("gzip", 415, "encoding-unsupported", b"\x1f\x8b\x08", headers={"Content-Encoding": "gzip"}),
        Case("fields in the address", 422, "field-misplaced", classify(), path=CLASSIFY + "?top_k=1", pointer="/top_k"),
    ]


def _images() -> list[Case]:
    jpeg, noise = picture(), b"\x93" * 5000
    text, bmp = b"just some text, no image at all", picture("BMP")
    return [
        Case("no image", 422, "image-missing", b"{}", pointer="/image"),
        Case("null image", 422, "image-missing", b'{"image": null}', pointer="/image"),
        Case("empty image", 422, "image-empty", b'{"image": ""}', pointer="/image"),
        Case("image is a number", 422, "field-type", b'{"image": 7}', pointer="/image"),
        Case("image is an object", 422, "field-type", b'{"image": {"url": "x"}}', pointer="/image"),
        Case("not base64", 422, "image-not-base64", b'{"image": "not base64 at all!"}', pointer="/image"),
        Case("half a base64", 422, "image-not-base64", json.dumps({"image": good()[:-3]}).encode(), pointer="/image"),
        Case("base64 of nothing", 422, "image-empty", b'{"image": "data:image/png;base64,"}', pointer="/image"),
        Case("text as image", 422, "image-unrecognised", image(text), pointer="/image"),
        Case("noise as image", 422, "image-unrecognised", image(noise), pointer="/image"),
        Case("svg with a file in it", 422, "image-unrecognised", image(SVG), pointer="/image"),
        Case("heic", 422, "image-unrecognised", image(HEIC), pointer="/image"),
        Case("fax tiff", 422, "image-unsupported", image(fax()), pointer="/image"),
        Case("pdf", 422, "image-unrecognised", image(b"%PDF-1.7 " + b"0" * 200), pointer="/image"),
        Case("jpeg begins and ends", 422, "image-truncated", image(jpeg[:3]), pointer="/image"),
        Case("truncated jpeg", 422, "image-truncated", image(jpeg[: len(jpeg) // 2]), pointer="/image"),
        Case("truncated png", 422, "image-truncated", image(picture("PNG")[:500]), pointer="/image"),
        Case("truncated bmp", 422, "image-truncated", image(bmp[: len(bmp) // 2]), pointer="/image"),
        Case("169 megapixel png", 422, "image-too-many-pixels", image(raw_png(13_000, 13_000)), pointer="/image"),
        Case("400 megapixel png", 422, "image-too-many-pixels", image(raw_png(20_000, 20_000)), pointer="/image"),
        Case(
            "png that says 2^31 pixels a side",
            422,
            "image-too-many-pixels",
            image(raw_png(2**31 - 1, 2**31 - 1, data=b"x")),
            pointer="/image",
        ),
        Case("png without pixels", 422, "image-no-pixels", image(raw_png(0, 5, data=b"x")), pointer="/image"),
        Case("png with broken pixels", 422, "image-corrupt", image(raw_png(9, 9, data=b"no zlib")), pointer="/image"),
        Case("gif of 10,000 frames", 422, "image-too-many-frames", image(many_frames(10_000)), pointer="/image"),
        Case("a line of pixels", 422, "image-aspect", image(raw_png(20_000, 2)), pointer="/image"),
        Case(
            "a 24 megapixel picture 64 times",
            422,
            "images-too-many-pixels",
            json.dumps({"images": [text_of(raw_png(4900, 4900))] * 64}).encode(),
            pointer="/images/4",
        ),
        Case("address while switched off", 422, "image-url-disabled", b'{"image": "https://example.org/a.jpg"}'),
        Case("address of the cloud", 422, "image-url-disabled", b'{"image": "http://169.254.169.254/latest"}'),
        Case("file address", 422, "image-not-base64", b'{"image": "file:///etc/passwd"}', pointer="/image"),
        Case("data uri without base64", 422, "image-not-base64", b'{"image": "data:image/png,abc"}', pointer="/image"),
        Case("no images", 422, "array-empty", b'{"images": []}', pointer="/images"),
        Case("65 images", 422, "array-too-long", json.dumps({"images": [good()] * 65}).encode(), pointer="/images"),
        Case(
            "second image broken",
            422,
            "image-not-base64",
            json.dumps({"images": [good(), "!"]}).encode(),
            pointer="/images/1",
        ),
        Case("image and images", 422, "field-conflict", classify(images=["x"]), pointer="/images"),
        Case("raw garbage", 422, "image-unrecognised", b"garbage", type="image/jpeg", pointer="/image"),
        Case("raw nothing", 422, "image-empty", b"", type="image/jpeg", pointer="/image"),
        Case("raw with a wrong field", 422, "field-type", jpeg, CLASSIFY + "?top_k=x", type="image/jpeg"),
        Case("raw with an unknown field", 422, "field-unknown", jpeg, CLASSIFY + "?topk=1", type="image/jpeg"),
        Case("raw with a broken query", 400, "query-malformed", jpeg, CLASSIFY + "?labels=%ff", type="image/jpeg"),
    ]


def _fields() -> list[Case]:
    labels = ["label"] * 10_001
    return [
        Case("unknown field", 422, "field-unknown", classify(lables=["a"]), pointer="/lables"),
        Case("10,001 labels", 422, "array-too-long", classify(labels=labels), pointer="/labels"),
        Case("no labels", 422, "array-empty", classify(labels=[]), pointer="/labels"),
        Case("empty label", 422, "text-empty", classify(labels=["a", ""]), pointer="/labels/1"),
        Case("blank label", 422, "text-empty", classify(labels=["  "]), pointer="/labels/0"),
        Case("label is a number", 422, "field-type", classify(labels=["a", 5]), pointer="/labels/1"),
        Case("labels are one text", 422, "field-type", classify(labels="a,b"), pointer="/labels"),
        Case("nul in a label", 422, "text-invalid", classify(labels=["a\x00b"]), pointer="/labels/0"),
        Case("endless label", 422, "text-too-long", classify(labels=["x" * 9000]), pointer="/labels/0"),
        Case("labels and label set", 422, "field-conflict", classify(labels=["a"], label_set="imagenet-1k")),
        Case("top_k 0", 422, "field-range", classify(top_k=0), pointer="/top_k"),
        Case("top_k huge", 422, "field-range", classify(top_k=10**18), pointer="/top_k"),
        Case("top_k as text", 422, "field-type", classify(top_k="5"), pointer="/top_k"),
        Case("top_k as fraction", 422, "field-type", classify(top_k=2.5), pointer="/top_k"),
        Case("top_k as boolean", 422, "field-type", classify(top_k=True), pointer="/top_k"),
        Case("threshold over 1", 422, "field-range", classify(threshold=1.01), pointer="/threshold"),
        Case("threshold as text", 422, "field-type", classify(threshold="0.5"), pointer="/threshold"),
        Case("multi_label as text", 422, "field-type", classify(multi_label="yes"), pointer="/multi_label"),
        Case("no templates", 422, "array-empty", classify(templates=[]), pointer="/templates"),
        Case("unknown model", 404, "model-not-found", classify(model="none-such"), pointer="/model"),
        Case("path as model", 404, "model-not-found", classify(model="../../etc/passwd"), pointer="/model"),
        Case("nul in the model's name", 422, "text-invalid", classify(model="a\x00"), pointer="/model"),
        Case("endless model name", 422, "text-too-long", classify(model="a" * 65), pointer="/model"),
        Case("unknown label set", 422, "label-set-unknown", classify(label_set="../secret"), pointer="/label_set"),
    ]


def _forms() -> list[Case]:
    jpeg, two, broken = picture(), form(("request", b"{}"), ("request", b"{}")), form(("request", b"{"))
    return [
        Case("form without boundary", 400, "multipart-malformed", form(("image", jpeg)), type="multipart/form-data"),
        Case("form that ends early", 400, "multipart-malformed", form(("image", jpeg), end=False), type=MULTIPART),
        Case("empty form", 400, "multipart-malformed", b"", type=MULTIPART),
        Case("form of another boundary", 400, "multipart-malformed", b"--c\r\n\r\nx\r\n--c--", type=MULTIPART),
        Case("form without image", 422, "image-missing", form(("request", b"{}")), type=MULTIPART),
        Case("form with an unknown part", 422, "part-unknown", form(("image", jpeg), ("top_k", b"1")), type=MULTIPART),
        Case("form with broken fields", 400, "json-malformed", broken, type=MULTIPART),
        Case("form with two requests", 422, "part-unknown", two, type=MULTIPART),
        Case("form of 1,000 parts", 422, "too-many-parts", form(*[("image", b"")] * 1000), type=MULTIPART),
        Case("form part without a name", 400, "multipart-malformed", b"--b\r\n\r\nx\r\n--b--\r\n", type=MULTIPART),
        Case(
            "image in form and in fields",
            422,
            "field-conflict",
            form(("image", jpeg), ("request", b'{"image": "x"}')),
            type=MULTIPART,
        ),
    ]


def _embeddings() -> list[Case]:
    def embed(name: str, status: int, code: str, pointer: str | None = None, **fields: Any) -> Case:
        return Case(f"embeddings: {name}", status, code, json.dumps(fields).encode(), EMBEDDINGS, pointer=pointer)

    return [
        embed("nothing", 422, "input-missing", "/input"),
        embed("empty text", 422, "text-empty", "/input", input=""),
        embed("no texts", 422, "array-empty", "/input", input=[]),
        embed("tokens", 422, "input-tokens", "/input", input=[1, 2, 3]),
        embed("arrays of tokens", 422, "input-tokens", "/input", input=[[1, 2], [3]]),
        embed("an object", 422, "field-type", "/input", input={"text": "a"}),
        embed("endless text", 422, "text-too-long", "/input", input="x" * 9000),
        embed("2,049 texts", 422, "array-too-long", "/input", input=["x"] * 2049),
        embed("text and image", 422, "field-conflict", None, input="x", image=good()),
        embed("unknown format", 422, "field-value", "/encoding_format", input="x", encoding_format="hex"),
        embed("no dimensions", 422, "field-range", "/dimensions", input="x", dimensions=0),
        embed("more dimensions than there are", 422, "dimensions-too-many", "/dimensions", input="x", dimensions=9999),
        embed("unknown model", 404, "model-not-found", "/model", input="x", model="none-such"),
        embed("unknown field", 422, "field-unknown", "/inputs", inputs=["x"]),
        Case("embeddings: form", 415, "content-type-unsupported", b"x", EMBEDDINGS, type="text/html"),
    ]


def _access() -> list[Case]:
    return [
        Case("no key", 401, "key-missing", classify(), key=None),
        Case("unknown key", 401, "key-invalid", classify(), key="sl_" + "x" * 43),
        Case("empty bearer", 401, "key-malformed", classify(), key=None, headers={"Authorization": "Bearer"}),
        Case("basic", 401, "key-malformed", classify(), key=None, headers={"Authorization": "Basic YTpi"}),
        Case("endless key", 401, "key-invalid", classify(), key="sl_" + "x" * 20_000),
        Case("sql in the key", 401, "key-invalid", classify(), key="sl_' OR 1=1 --"),
        Case("no key for a body of 60 MB", 401, "key-missing", b"x" * 60_000, key=None),
        Case("infer key loads a model", 403, "scope-missing", b"", "/v1/models/tiny-classifier/load"),
        Case("infer key unloads a model", 403, "scope-missing", b"", "/v1/models/tiny-classifier/unload"),
        Case("infer key reads metrics", 403, "scope-missing", b"", "/metrics", "GET"),
    ]


def _paths() -> list[Case]:
    return [
        Case("unknown path", 404, "path-not-found", b"", "/v1/none-such", "GET"),
        Case("wrong method", 405, "method-not-allowed", b"", CLASSIFY, "GET"),
        Case("made-up method", 405, "method-not-allowed", b"", CLASSIFY, "PROPFIND"),
        Case("path traversal", 404, "path-not-found", b"", "/v1/models/..%2f..%2f..%2fetc%2fpasswd", "GET"),
        Case("dots as model", 404, "model-not-found", b"", "/v1/models/%2e%2e", "GET"),
        Case("nul as model", 404, "model-not-found", b"", "/v1/models/%00", "GET"),
        Case("endless model", 404, "model-not-found", b"", "/v1/models/" + "a" * 20_000, "GET"),
        Case("load of a path", 404, "path-not-found", b"", "/v1/models/../../tmp/x/load", key="admin"),
        Case("load of what is not there", 404, "model-not-found", b"", "/v1/models/none-such/load", key="admin"),
        Case("invalid percent", 404, "model-not-found", b"", "/v1/models/%zz", "GET"),
    ]


def _large() -> list[Case]:
    return [
        Case("slow body", 408, "body-timeout", dripping),
        Case("chunked endless body", 413, "body-too-large", endless),
        Case("60 MB body", 413, "body-too-large", b'{"image": "' + b"A" * 60_000_000 + b'"}'),
        Case("image of 24 MB", 413, "image-too-large", b'{"image": "' + b"A" * 31_000_000 + b'"}', pointer="/image"),
        Case("raw image of 24 MB", 413, "image-too-large", b"\xff\xd8\xff" + b"A" * 24_000_000, type="image/jpeg"),
        Case("millions of small values", 413, "json-too-many-values", b'{"labels": [' + b"{}," * 10_000_000 + b"{}]}"),
    ]
