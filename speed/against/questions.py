"""What is asked of both versions: every step of the demo, every form of a request, every verb, and what is refused."""

from __future__ import annotations

import base64
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
DRAWINGS = ROOT / "examples/data/drawings"
CLOTHES = ROOT / "examples/data/clothing-mini.zip"
LABELS = ["a cat", "a cup of coffee", "a rocket", "a motorcycle", "a dog", "a bicycle", "a bus", "a pizza"]
SENTENCES = ["A kitten sleeps on the sofa.", "The cat is napping on a couch.", "The rocket lifts off at dawn."]


@dataclass(frozen=True, slots=True)
class Question:
    """One request. ``{name}`` in its path and JSON is the id that an earlier answer was kept as by ``keep``."""

    what: str
    method: str
    path: str
    key: str = "user"
    json: Any = None
    content: bytes | None = None
    files: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    keep: str = ""
    follow: bool = False
    """The answer is a job: what counts is the job when it has ended."""
    meant: str = ""
    """Why its words are meant to be others since; status and code are not."""


def post(what: str, path: str, body: Any = None, **more: Any) -> Question:
    return Question(what, "POST", path, json=body, **more)


def get(what: str, path: str, **more: Any) -> Question:
    return Question(what, "GET", path, **more)


class Pictures:
    """Photos of scikit-image, drawings of the repository, and broken ones, as bytes."""

    def __init__(self, photos: Path) -> None:
        self.photos = photos

    def photo(self, name: str) -> bytes:
        return (self.photos / name).read_bytes()

    def b64(self, name: str) -> str:
        return base64.b64encode(self.photo(name)).decode()

    def drawing(self, name: str) -> str:
        return base64.b64encode((DRAWINGS / f"{name}.png").read_bytes()).decode()

    def small(self, form: str = "PNG", mode: str = "RGB") -> bytes:
        """A 40 x 30 picture of blocks in any format and mode."""
        blocks = np.random.default_rng(1).integers(0, 256, (3, 4, 4), np.uint8)
        picture = Image.fromarray(np.kron(blocks, np.ones((10, 10, 1), np.uint8)), "RGBA").convert(mode)
        sink = io.BytesIO()
        picture.save(sink, form)
        return sink.getvalue()

    def turned(self) -> bytes:
        """A JPEG whose EXIF says that it lies on its side."""
        exif = Image.Exif()
        exif[0x0112] = 6
        sink = io.BytesIO()
        Image.open(io.BytesIO(self.small("JPEG"))).save(sink, "JPEG", exif=exif)
        return sink.getvalue()

    @staticmethod
    def huge() -> bytes:
        """A PNG whose header says 60,000 x 60,000."""
        head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
        chunk = b"IHDR" + head
        return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + bytes(64)


def questions(pictures: Pictures, *, jobs: bool) -> Iterator[Question]:
    """All, in the order in which they are asked."""
    yield from classifying(pictures)
    yield from forms(pictures)
    yield from embedding(pictures)
    yield from resources(pictures)
    yield from protocol(pictures)
    yield from refused(pictures)
    if jobs:
        yield from working()


def classifying(pictures: Pictures) -> Iterator[Question]:
    """``/v1/classify`` with every field."""
    cat, coffee = pictures.b64("chelsea.png"), pictures.b64("coffee.png")
    photo = {"model": "photo-zero-shot", "image": cat, "labels": LABELS}
    for what, fields in {
        "labels": {},
        "two images": {"image": None, "images": [cat, coffee]},
        "default model": {"model": None},
        "version": {"version": "1"},
        "one label": {"labels": ["a cat"]},
        "top_k": {"top_k": 2},
        "threshold": {"threshold": 0.5},
        "multi_label": {"multi_label": True},
        "multi_label, threshold": {"multi_label": True, "threshold": 0.1, "top_k": 8},
        "templates": {"templates": ["a photo of {}.", "{}, seen from afar"]},
        "template set": {"template_set": "openai-imagenet-80"},
        "label set": {"labels": None, "label_set": "imagenet-1k"},
        "labels of other scripts": {"labels": ["un chat", "eine Katze", "猫", "🐈"]},
        "300 labels": {"labels": [f"thing number {n}" for n in range(300)]},
    }.items():
        yield post(f"photos, {what}", "/v1/classify", photo | fields)
    for name in ("chelsea.png", "coffee.png"):
        body = {"model": "efficientnet-lite2", "image": pictures.b64(name), "top_k": 3}
        yield post(f"closed set, {name}", "/v1/classify", body)
    body = {"model": "efficientnet-lite2", "image": cat}
    yield post("closed set, some of its labels", "/v1/classify", body | {"labels": ["tabby cat", "espresso"]})
    yield post("closed set, its own label set", "/v1/classify", body | {"label_set": "imagenet-1k", "top_k": 1000})
    drawings = ["owl", "parachute", "tiger", "wolf", "sailboat", "locomotive", "guitar", "house", "key", "sunflower"]
    for name in ("owl", "sailboat"):
        body = {"model": "unicl-pocket", "image": pictures.drawing(name), "labels": drawings, "top_k": 3}
        yield post(f"drawings, {name}", "/v1/classify", body)
    yield post("drawings, explained", "/v1/classify", body | {"explain": True})
    yield post("drawings, photo explained", "/v1/classify", body | {"explain": True, "image": cat})
    small = base64.b64encode(pictures.small()).decode()
    for model in ("tiny-classifier", "my-colours"):
        yield post(f"{model}", "/v1/classify", {"model": model, "images": [small] * 3})
    for model in ("tiny-open", "my-pair"):
        yield post(f"{model}", "/v1/classify", {"model": model, "image": small, "labels": ["a cat", "a dog"]})


def forms(pictures: Pictures) -> Iterator[Question]:
    """Every way in which an image can be sent."""
    request = json.dumps({"model": "photo-zero-shot", "labels": LABELS})
    files = [
        ("image", ("coffee.png", pictures.photo("coffee.png"), "image/png")),
        ("image", ("motorcycle.png", pictures.photo("motorcycle_left.png"), "image/png")),
    ]
    yield post("multipart, two files", "/v1/classify", files=[*files, ("request", (None, request))])
    plain = [("model", (None, "tiny-classifier")), ("image", ("a.png", pictures.small(), "image/png"))]
    yield post("multipart, plain fields", "/v1/classify", files=plain)
    query = f"/v1/classify?model=photo-zero-shot&labels={','.join(LABELS)}&top_k=3"
    jpeg = {"Content-Type": "image/jpeg"}
    yield post("raw body", query, content=pictures.photo("rocket.jpg"), headers=jpeg)
    yield post("raw body, wrong type said", query, content=pictures.photo("chelsea.png"), headers=jpeg)
    tiny = "/v1/classify?model=tiny-classifier"
    for form, mode in (("JPEG", "L"), ("PNG", "RGBA"), ("PNG", "P"), ("WEBP", "RGB"), ("GIF", "P"), ("BMP", "RGB"),
                       ("TIFF", "RGB"), ("PNG", "1"), ("JPEG", "CMYK")):  # fmt: skip
        body = pictures.small(form, mode)
        headers = {"Content-Type": f"image/{form.lower()}"}
        yield post(f"{form} {mode}", tiny, content=body, headers=headers)
    yield post("EXIF orientation", tiny, content=pictures.turned(), headers=jpeg)
    yield post("12 megapixels", tiny, content=large(), headers=jpeg)
    uri = "data:image/png;base64," + base64.b64encode(pictures.small()).decode()
    yield post("data URI", "/v1/classify", {"model": "tiny-classifier", "image": uri})
    yield post("upload", "/v1/artifacts?name=small.png", content=pictures.small(), keep="artifact")
    body = {"model": "tiny-classifier", "image": "artifact:{artifact}"}
    yield post("artifact", "/v1/classify", body)
    yield post("another's artifact", "/v1/classify", body, key="stranger")
    yield post("gzip", tiny, content=pictures.small(), headers={"Content-Type": "image/png", "Accept-Encoding": "gzip"})
    yield post("own request id", tiny, content=pictures.small(), headers={**jpeg, "X-Request-ID": "mine-1"})


def large() -> bytes:
    """A 4000 x 3000 JPEG, as a phone's."""
    coarse = np.random.default_rng(2).integers(0, 256, (12, 16, 3), np.uint8)
    sink = io.BytesIO()
    Image.fromarray(coarse).resize((4000, 3000), Image.Resampling.BICUBIC).save(sink, "JPEG", quality=90)
    return sink.getvalue()


def embedding(pictures: Pictures) -> Iterator[Question]:
    """``/v1/embeddings``, as OpenAI's client asks and with images."""
    texts = {"model": "minilm-l6", "input": SENTENCES}
    for what, fields in {
        "texts": {},
        "one text": {"input": SENTENCES[0]},
        "default model": {"model": None},
        "base64": {"encoding_format": "base64"},
        "dimensions": {"dimensions": 128},
        "base64 and dimensions": {"dimensions": 32, "encoding_format": "base64"},
        "a user": {"user": "somebody"},
        "long texts": {"input": ["word " * 600, "x" * 400]},
        "100 texts": {"input": [f"sentence number {n} of a hundred" for n in range(100)]},
    }.items():
        yield post(f"embeddings, {what}", "/v1/embeddings", texts | fields)
    owl = pictures.drawing("owl")
    for model in ("unicl-pocket", "efficientnet-lite2", "photo-zero-shot", "tiny-encoder", "my-colours"):
        yield post(f"embeddings, an image with {model}", "/v1/embeddings", {"model": model, "image": owl})
    yield post(
        "embeddings, words in the space of drawings", "/v1/embeddings", {"model": "unicl-pocket", "input": LABELS}
    )
    files = [("image", ("owl.png", pictures.small(), "image/png")), ("request", (None, '{"model": "tiny-encoder"}'))]
    yield post("embeddings, multipart", "/v1/embeddings", files=files)


def resources(pictures: Pictures) -> Iterator[Question]:
    """Models, label sets, what is kept, health."""
    yield get("models", "/v1/models")
    for name in ("photo-zero-shot", "unicl-pocket", "tiny-open", "my-colours", "tiny-text"):
        yield get(f"model {name}", f"/v1/models/{name}")
    yield get("label sets", "/v1/label-sets")
    yield get("label set", "/v1/label-sets/imagenet-1k")
    yield post("load", "/v1/models/tiny-text/load", key="admin")
    body = {"model": "tiny-predicted", "image": base64.b64encode(pictures.small()).decode(), "labels": ["cat", "a car"]}
    yield post("a pipeline whose part is back", "/v1/classify", body)
    yield post("unload", "/v1/models/tiny-text/unload", key="admin")
    for path in ("jobs", "artifacts", "datasets", "jobs?state=failed&limit=1", "leaderboard?suite=dataset:colours"):
        yield get(f"list of {path}", f"/v1/{path}")
    yield get("artifact, about it", "/v1/artifacts/{artifact}")
    yield get("artifact's bytes", "/v1/artifacts/{artifact}/content")
    yield get("a range of them", "/v1/artifacts/{artifact}/content", headers={"Range": "bytes=10-19"})
    yield Question("delete", "DELETE", "/v1/artifacts/{artifact}")
    yield get("and it is gone", "/v1/artifacts/{artifact}")
    for path in ("/healthz", "/readyz", "/docs", "/nowhere"):
        yield get(path, path)
    yield Question("preflight", "OPTIONS", "/v1/classify", headers={"Origin": "https://x.example"})
    yield Question("head", "HEAD", "/v1/models", meant="HEAD is answered as GET without its body")


def protocol(pictures: Pictures) -> Iterator[Question]:
    """Every verb of the Open Inference Protocol."""
    for path in ("", "/health/live", "/health/ready"):
        yield get(f"/v2{path}", f"/v2{path}")
    rows = "class rows are kept by the hashes of a pipeline's parts, so that a tower with the same files runs less"
    yield get("/v2/models/stats", "/v2/models/stats", meant=rows)
    for model in ("efficientnet-lite2", "tiny-adder", "photo-zero-shot"):
        for path in ("", "/ready", "/config", "/stats"):
            yield get(f"/v2 {model}{path}", f"/v2/models/{model}{path}")
    for path in ("", "/ready", "/config", "/stats"):
        yield get(f"/v2 version{path}", f"/v2/models/tiny-adder/versions/2{path}")
    numbers = [{"name": name, "shape": [2, 4], "datatype": "FP32", "data": list(range(8))} for name in "ab"]
    yield post("/v2 infer", "/v2/models/tiny-adder/infer", {"id": "seven", "inputs": numbers})
    yield post("/v2 infer of a version", "/v2/models/tiny-adder/versions/2/infer", {"inputs": numbers})
    wanted = [{"name": "sum", "parameters": {"binary_data": True}}]
    yield post("/v2 infer, binary answer", "/v2/models/tiny-adder/infer", {"inputs": numbers, "outputs": wanted})
    yield tensor("/v2 infer, binary tensor and classes", "/v2/models/tiny-classifier/infer", 3)
    yield post("/v2 index", "/v2/repository/index")
    yield post("/v2 index of what is ready", "/v2/repository/index", {"ready": True})
    config = json.dumps({"version_policy": {"all": {}}})
    load = {"parameters": {"config": config}}
    yield post("/v2 load of all versions", "/v2/repository/models/tiny-adder/load", load, key="admin")
    yield post("/v2 infer of the older", "/v2/models/tiny-adder/versions/1/infer", {"inputs": numbers})
    yield post("/v2 unload", "/v2/repository/models/tiny-adder/unload", {}, key="admin")
    yield get("/v2 not ready", "/v2/models/tiny-adder/ready")
    yield post("/v2 infer when unloaded", "/v2/models/tiny-adder/infer", {"inputs": numbers})
    yield post("/v2 load", "/v2/repository/models/tiny-adder/load", {}, key="admin")
    yield get("/v2 shared memory", "/v2/systemsharedmemory/status")
    yield get("/v2 trace", "/v2/trace/setting")
    for what, inputs in {
        "a missing input": numbers[:1],
        "a wrong type": [{**numbers[0], "datatype": "INT32"}, numbers[1]],
        "a wrong shape": [{**numbers[0], "shape": [2, 5]}, numbers[1]],
        "too few numbers": [{**numbers[0], "data": [1]}, numbers[1]],
        "an unknown input": [*numbers, {**numbers[0], "name": "c"}],
    }.items():
        yield post(f"/v2 {what}", "/v2/models/tiny-adder/infer", {"inputs": inputs})
    yield post("/v2 an unknown model", "/v2/models/nothing/infer", {"inputs": numbers})
    yield post("/v2 an unknown version", "/v2/models/tiny-adder/versions/9/infer", {"inputs": numbers})
    yield post("/v2 load of nothing", "/v2/repository/models/nothing/load", {}, key="admin")
    yield post("/v2 load without right", "/v2/repository/models/tiny-adder/load", {})


def tensor(what: str, path: str, classes: int) -> Question:
    """A picture as a binary tensor; the answer is its best classes."""
    data = np.random.default_rng(3).standard_normal((1, 3, 32, 32)).astype(np.float32).tobytes()
    shape = {"name": "image", "shape": [1, 3, 32, 32], "datatype": "FP32"}
    body = {
        "inputs": [{**shape, "parameters": {"binary_data_size": len(data)}}],
        "outputs": [{"name": "logits", "parameters": {"classification": classes}}],
    }
    head = json.dumps(body).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return post(what, path, content=head + data, headers=headers)


def refused(pictures: Pictures) -> Iterator[Question]:
    """Bad inputs, and what they are told."""
    small = base64.b64encode(pictures.small()).decode()
    good = {"model": "tiny-open", "image": small, "labels": ["a cat", "a dog"]}
    for what, fields in {
        "no image": {"image": None},
        "unknown model": {"model": "nothing"},
        "unknown version": {"version": "7"},
        "no labels": {"labels": None},
        "empty list of labels": {"labels": []},
        "a label twice": {"labels": ["a cat", "a cat"]},
        "an empty label": {"labels": ["a cat", " "]},
        "a label that is no text": {"labels": ["a cat", 7]},
        "NUL in a label": {"labels": ["a\x00cat"]},
        "half a surrogate": {"labels": ["\ud800"]},
        "labels and label set": {"label_set": "imagenet-1k"},
        "unknown label set": {"labels": None, "label_set": "nothing"},
        "a template without place": {"templates": ["a photo"]},
        "unknown template set": {"template_set": "nothing"},
        "top_k 0": {"top_k": 0},
        "top_k as text": {"top_k": "5"},
        "threshold 2": {"threshold": 2},
        "an unknown field": {"lables": ["a cat"]},
        "an explanation it cannot give": {"explain": True},
        "65 images": {"image": None, "images": [small] * 65},
        "image and images": {"images": [small]},
        "no base64": {"image": "this is no base64!"},
        "no image format": {"image": base64.b64encode(b"plain text, no picture" * 4).decode()},
        "half an image": {"image": pictures.b64("rocket.jpg")[:8000]},
        "3.6 gigapixels": {"image": base64.b64encode(pictures.huge()).decode()},
        "another image bad": {"image": None, "images": [small, "bad", small]},
        "remote image": {"image": "https://example.com/a.png"},
        "a file address": {"image": "file:///etc/passwd"},
        "an artifact that is not there": {"image": "artifact:art_00000000000000000000000000"},
        "a model that does not classify": {"model": "tiny-text"},
        "a part that was unloaded": {"model": "tiny-predicted"},
    }.items():
        yield post(f"refused, {what}", "/v1/classify", good | fields)
    body = {"model": "tiny-classifier", "image": small, "labels": ["giraffe"]}
    yield post("refused, a label that a closed set lacks", "/v1/classify", body)
    said = {"Content-Type": "application/json"}
    for what, content, headers in (
        ("broken JSON", b'{"model": ', said),
        ("a list", b"[1, 2]", said),
        ("no body", b"", said),
        ("no UTF-8", b'{"model": "\xff"}', said),
        ("NaN", b'{"model": "tiny-open", "threshold": NaN}', said),
        ("XML", b"<a/>", {"Content-Type": "text/xml"}),
        ("no type", b"abc", {}),
        ("multipart without end", b"--x\r\n", {"Content-Type": "multipart/form-data; boundary=x"}),
        ("compressed", b"abc", {**said, "Content-Encoding": "gzip"}),
        ("too long", bytes(33 << 20), said),
    ):
        yield post(f"refused, {what}", "/v1/classify", content=content, headers=headers)
    yield get("refused, GET", "/v1/classify")
    png = {"Content-Type": "image/png"}
    yield post("refused, a bad query", "/v1/classify?top_k=many", content=pictures.small(), headers=png)
    for what, fields in {
        "nothing to embed": {"input": None},
        "an empty list": {"input": []},
        "an empty text": {"input": [""]},
        "texts and image": {"image": small},
        "dimensions 0": {"dimensions": 0},
        "too many dimensions": {"dimensions": 100_000},
        "unknown encoding": {"encoding_format": "hex"},
        "tokens": {"input": [[1, 2]]},
        "a model of images": {"model": "efficientnet-lite2"},
    }.items():
        yield post(f"refused, embeddings, {what}", "/v1/embeddings", {"model": "tiny-tower", "input": "a"} | fields)
    yield post("refused, no key", "/v1/classify", good, key="")
    yield post("refused, wrong key", "/v1/classify", good, key="nobody")
    yield post("refused, admin's", "/v1/models/tiny-open/unload", key="user")
    for what, job in {
        "unknown kind": {"kind": "nothing", "parameters": {}},
        "no parameters": {"kind": "finetune"},
        "unknown data set": {"kind": "finetune", "parameters": {"dataset": "nothing", "name": "x"}},
        "a bad name": {"kind": "finetune", "parameters": {"dataset": "colours", "name": "../x"}},
        "a taken name": {"kind": "finetune", "parameters": {"dataset": "colours", "name": "tiny-open"}},
        "an unknown parameter": {"kind": "batch", "parameters": {"input": [{}], "speed": 9}},
        "an empty batch": {"kind": "batch", "parameters": {"input": []}},
        "unknown model": {"kind": "benchmark", "parameters": {"suite": "dataset:colours", "models": ["nothing"]}},
        "unknown suite": {"kind": "benchmark", "parameters": {"suite": "nothing", "models": ["tiny-open"]}},
        "too few images": {"kind": "pretrain", "parameters": {"dataset": "colours", "name": "x"}},
        "a private webhook": {
            "kind": "batch",
            "parameters": {"input": [{"url": "/v1/classify", "body": {}}]},
            "webhook": {"url": "http://127.0.0.1/", "secret": "s" * 32},
        },
    }.items():
        meant = "says no longer whether another's model exists" if what == "a taken name" else ""
        yield post(f"refused, job, {what}", "/v1/jobs", job, meant=meant)
    bundle = {"Content-Type": "application/zip"}
    yield post("refused, no archive", "/v1/datasets?name=x", content=b"no zip", headers=bundle)
    yield get("refused, a bad limit", "/v1/jobs?limit=0")


def working() -> Iterator[Question]:
    """The demo's long steps: a data set, a batch, a fine-tuned model and its answers, a benchmark."""
    archive = CLOTHES.read_bytes()
    headers = {"Content-Type": "application/zip"}
    yield post("job, upload clothes", "/v1/datasets?name=clothes", content=archive, headers=headers, keep="clothes")
    yield get("job, the set", "/v1/datasets/{clothes}")
    with zipfile.ZipFile(io.BytesIO(archive)) as bundle:
        tests = {name: bundle.read(name) for name in sorted(bundle.namelist()) if name.startswith("test/")}
    coded = {name: base64.b64encode(data).decode() for name, data in tests.items()}
    line = {"method": "POST", "url": "/v1/classify"}
    lines = [
        {**line, "custom_id": name, "body": {"model": "efficientnet-lite2", "image": data, "top_k": 1}}
        for name, data in coded.items()
    ]
    sent = b"\n".join(json.dumps(one).encode() for one in lines)
    yield post("job, upload lines", "/v1/artifacts?name=photos.jsonl", content=sent, keep="lines")
    batch = {"kind": "batch", "parameters": {"input": "artifact:{lines}"}}
    yield post("job, batch", "/v1/jobs", batch, keep="batch", follow=True)
    yield get("job, its lines", "/v1/jobs/{batch}/artifacts/results.jsonl")
    tune = {"dataset": "clothes", "model": "efficientnet-lite2", "name": "my-clothes"}
    yield post("job, finetune", "/v1/jobs", {"kind": "finetune", "parameters": tune}, keep="tune", follow=True)
    yield get("job, its adapter", "/v1/jobs/{tune}/artifacts/adapter.safetensors")
    yield post("job, its answers", "/v1/classify", {"model": "my-clothes", "images": list(coded.values()), "top_k": 5})
    measured = {
        "suite": "dataset:clothes",
        "models": ["photo-zero-shot", "unicl-pocket"],
        "protocols": ["zero-shot", "linear-probe", "linear-probe-language"],
        "shots": [4, 8],
        "seeds": [0, 1, 2],
        "learning_rate": 1e-2,
        "weight_decay": 1e-4,
    }
    yield post("job, benchmark", "/v1/jobs", {"kind": "benchmark", "parameters": measured}, keep="marks", follow=True)
    yield get("job, its table", "/v1/jobs/{marks}/artifacts/results.csv")
    yield get("job, leaderboard", "/v1/leaderboard?suite=dataset:clothes")
    pairs = {"dataset": "clothes", "name": "my-pair2", "network": "nano", "image_size": 32, "vocabulary": 512}
    train = {"kind": "pretrain", "parameters": {**pairs, "steps": 20, "batch_size": 16}}
    yield post("job, pretrain", "/v1/jobs", train, keep="train", follow=True)
    body = {"model": "my-pair2", "images": list(coded.values())[:5], "labels": ["a shoe", "a hat", "pants"]}
    yield post("job, what it trained", "/v1/classify", body)
