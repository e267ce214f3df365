"""The ``sightline`` command: what it prints, how its failures read, what it loads."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from models.catalog.card import Card
from models.catalog.catalog import Catalog
from models.catalog.geometry import ImagePreprocess
from services.errors import Problem
from sightline.cli import output
from sightline.cli.classify import split_labels
from sightline.cli.main import main
from sightline.cli.settings import _hide_password
from tests.support import tiny_models

ROOT = Path(__file__).parents[3]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a command line in this process: exit code, standard output, standard error."""
    monkeypatch.setenv("SIGHTLINE_DATA_DIR", str(tmp_path / "data"))

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sightline", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return call


class Platform(BaseHTTPRequestHandler):
    """Knows one picture by its bytes; refuses those that begin with ``bad``."""

    requests: list[dict[str, Any]]

    def do_POST(self) -> None:
        import base64

        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append(body)
        pictures = [base64.b64decode(text) for text in body["images"]]
        bad = next((index for index, data in enumerate(pictures) if data.startswith(b"bad")), None)
        if bad is not None:
            problem = {"title": "Not an image", "detail": f"Image {bad} is none.", "pointer": f"/images/{bad}"}
            self._answer(422, problem | {"type": "x/image-unknown", "remedy": "Send a picture."})
            return
        results = [
            {
                "index": index,
                "width": 2,
                "height": 1,
                "none_of_these": 0.25,
                "predictions": [{"label": data.decode(), "score": 0.75}],
            }
            for index, data in enumerate(pictures)
        ]
        if body.get("explain"):
            for data, result in zip(pictures, results, strict=True):
                png = "data:image/png;base64," + base64.b64encode(b"map of " + data).decode()
                result["explanation"] = {"image": png, "method": "focal-modulation"}
        self._answer(200, {"model": "m", "version": "1", "results": results})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """A server that classifies by the bytes; the bodies it was sent."""
    handler = type("Handler", (Platform,), {"requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("SIGHTLINE_URL", f"http://127.0.0.1:{server.server_port}")
    yield handler.requests
    server.shutdown()
    server.server_close()


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv = ['sightline', '--help']\n"
        "from sightline.cli.main import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "heavy = 'pydantic httpx numpy sqlalchemy yaml fastapi torch onnxruntime asyncio'.split()\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.strip() == "[]"
    assert "serve" in done.stdout and "classify" in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        "serve", "classify", "embed", "settings", "version", "models list", "models pull", "models import",
        "models info", "models verify", "models remove", "keys create", "keys list", "keys revoke",
    ],
)  # fmt: skip
def test_every_command_has_help_and_all_that_print_can_print_json(run: Run, command: str) -> None:
    code, out, _ = run(*command.split(), "--help")
    assert code == 0
    assert "--json" in out or command == "serve"


def test_a_wrong_command_line_is_exit_code_2(run: Run) -> None:
    for arguments in (["nonsense"], ["serve", "--port", "x"], ["keys", "create"], ["serve", "--workers", "0"]):
        assert run(*arguments)[0] == 2


@pytest.mark.parametrize("command", ["models remove", "models info a b", "keys create --name x --scope y", "nonsense"])
def test_a_wrong_command_line_is_json_where_json_is_asked_for(run: Run, command: str) -> None:
    code, out, err = run(*command.split(), "--json")
    assert (code, out) == (2, "")
    error = json.loads(err)["error"]
    assert error["code"] == "usage" and error["detail"] and "--help" in error["remedy"]


def test_exit_codes_of_commands_are_the_same_with_json(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    assert run("models", "list", "--json")[0] == 0
    assert run("models", "list", "--json", "--help")[0] == 0
    monkeypatch.setattr("sightline.cli.listing.print_json", interrupted)
    assert run("models", "list", "--json")[0] == 130


def test_no_color_is_respected() -> None:
    import os

    environment = {**os.environ, "FORCE_COLOR": "1", "NO_COLOR": "1", "SIGHTLINE_PORT": "x"}
    argv = [sys.executable, "-m", "sightline", "settings"]
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "A setting is wrong" in done.stderr
    assert "\x1b[3" not in done.stderr


def test_a_key_is_shown_once_and_alone_on_standard_output(run: Run) -> None:
    code, out, err = run("keys", "create", "--name", "[bold]me[/]", "--scope", "infer", "--scope", "jobs")
    assert code == 0 and out.startswith("sl_") and out.count("\n") == 1
    assert "[bold]me[/]" in err and "not shown again" in err
    code, out, _ = run("keys", "list", "--json")
    (key,) = json.loads(out)
    assert (key["name"], key["scopes"], key["revoked_at"]) == ("[bold]me[/]", ["infer", "jobs"], None)
    assert "secret" not in key and "hash" not in key


def test_a_revoked_key_says_so(run: Run) -> None:
    key = json.loads(run("keys", "create", "--name", "n", "--json")[1])
    assert run("keys", "revoke", key["id"])[0] == 0
    assert json.loads(run("keys", "list", "--json")[1])[0]["revoked_at"] is not None


def test_a_failure_says_what_to_do_next_and_shows_no_trace(run: Run) -> None:
    code, out, err = run("keys", "revoke", "key_nobody")
    assert (code, out) == (1, "")
    assert "Key does not exist" in err and "sightline keys list" in err and "Traceback" not in err


def test_a_failure_is_json_for_programs(run: Run) -> None:
    code, out, err = run("keys", "revoke", "key_nobody", "--json")
    assert (code, out) == (1, "")
    assert json.loads(err)["error"]["code"] == "key-not-found"


def test_a_bug_is_told_as_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**options: object) -> object:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("sightline.cli.keys.settings_with", broken)
    code, _, err = run("keys", "list")
    assert code == 1 and "This is a bug" in err and "--debug" in err and "Traceback" not in err


def test_a_wrong_setting_names_its_variable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_PORT", "eighty")
    code, _, err = run("settings")
    assert code == 1 and "SIGHTLINE_PORT" in err and "'eighty'" in err


def test_settings_are_listed_with_their_variables(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_WORKERS", "3")
    assert json.loads(run("settings", "--json")[1])["SIGHTLINE_WORKERS"] == 3
    assert "SIGHTLINE_DRAIN_SECONDS" in run("settings")[1]


def test_passwords_in_addresses_are_not_shown() -> None:
    assert _hide_password("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    assert _hide_password("redis://:secret@host:1/0") == "redis://:***@host:1/0"
    assert _hide_password("sqlite:////data/x.db") == "sqlite:////data/x.db"


def test_versions_are_told(run: Run) -> None:
    facts = json.loads(run("version", "--json")[1])
    assert facts["libraries"]["onnxruntime"] and "CPU" in facts["providers"]
    assert run("--version")[1].startswith("sightline ")


def test_models_are_listed_pulled_or_not(run: Run, tmp_path: Path) -> None:
    tiny_models.add_all(tmp_path / "data" / "models")
    lines = {line["name"]: line for line in json.loads(run("models", "list", "--json")[1])}
    assert lines["efficientnet-lite2"]["state"] == "available"
    installed = [line for line in lines.values() if line["state"] == "installed"]
    assert installed and all(line["versions"] and line["bytes"] > 0 for line in installed)
    assert "efficientnet-lite2" in run("models", "list")[1]


def test_a_card_is_shown_for_models_that_are_not_here_too(run: Run) -> None:
    assert "not installed: sightline models pull minilm-l6" in run("models", "info", "minilm-l6")[1]
    assert json.loads(run("models", "info", "minilm-l6", "--json")[1])["licence"]["spdx"] == "Apache-2.0"


def test_a_misspelt_model_is_told_before_anything_is_fetched(run: Run, tmp_path: Path) -> None:
    code, _, err = run("models", "pull", "minilm-l6", "minilm-l7")
    assert code == 1 and "minilm-l7" in err and not (tmp_path / "data" / "cache").exists()


def test_published_checkpoints_are_listed_with_where_to_get_them(run: Run) -> None:
    code, out, _ = run("models", "convert", "--json")
    listed = {line["name"]: line["get"] for line in json.loads(out)}
    assert code == 0 and "focalnet_tiny_srf.pth" in listed["focalnet-tiny-srf"] and len(listed) > 30


def test_a_published_checkpoint_is_pulled_or_said_how_to_bring_its_file(run: Run, tmp_path: Path) -> None:
    code, _, err = run("models", "pull", "focalnet-tiny-srf", "--json")
    told = " ".join(err.split())
    where = tmp_path / "data" / "cache" / "published" / "focalnet-tiny-srf" / "focalnet_tiny_srf.pth"
    assert code == 1 and str(where) in told.replace(" ", "") and "licence MIT" in told
    assert "sightline models pull focalnet-tiny-srf --file PATH" in told
    code, _, err = run("models", "pull", "--file", str(tmp_path / "a.pth"))
    assert code == 2 and "name it" in err
    code, _, err = run("models", "pull", "focalnet-tiny-srf", "--file", str(tmp_path / "a.pth"), "--json")
    assert code == 1 and "a.pth is not there" in err


@pytest.mark.slow
def test_a_pulled_checkpoint_is_installed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from models.backbones.focalnet import FocalNet, FocalNetConfig
    from models.focalnet.variants import VARIANTS

    config = FocalNetConfig(embed_dim=4, depths=(1, 1), focal_levels=(1, 2), focal_windows=(3, 3))
    monkeypatch.setitem(VARIANTS, "focalnet_tiny_srf", config)
    torch.save({"model": FocalNet(config).state_dict()}, tmp_path / "a.pth")
    code, out, err = run("models", "pull", "focalnet-tiny-srf", "--file", str(tmp_path / "a.pth"), "--json")
    assert code == 0, err
    assert json.loads(out)[0]["name"] == "focalnet-tiny-srf"
    assert run("models", "verify", "focalnet-tiny-srf")[0] == 0


def test_everything_that_can_be_pulled_is_listed_with_title_licence_and_size(run: Run) -> None:
    code, out, _ = run("models", "list", "--available", "--json")
    lines = {line["name"]: line for line in json.loads(out)}
    assert code == 0 and lines.keys() == set(Catalog.read().names)
    assert all(line["title"] and line["licence"] for line in lines.values())
    assert lines["minilm-l6"]["bytes"] > 1_000_000 and not lines["minilm-l6"]["published"]
    assert lines["focalnet-base-iso"]["bytes"] == 349_107_129 and not lines["focalnet-base-iso"]["by_hand"]
    assert lines["focalnet-tiny-srf"]["published"] and lines["focalnet-tiny-srf"]["by_hand"]
    code, out, _ = run("models", "list", "--available")
    assert code == 0 and "klite-swin-t-in21k" in out and "349.1 MB" in out


def test_a_converted_checkpoint_is_judged_by_labelled_pictures(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label, colour in (("plum", "purple"), ("mint", "green")):
        (tmp_path / "sweets" / label).mkdir(parents=True)
        Image.new("RGB", (40, 30), colour).save(tmp_path / "sweets" / label / "a.png")
    (tmp_path / "file.pth").touch()
    asked: list[Any] = []

    def convert(*arguments: Any) -> list[Card]:
        asked.extend(arguments)
        return []

    monkeypatch.setattr("models.convert.convert", convert)
    (tmp_path / "more.pth").touch()
    arguments = ["focalnet-tiny-srf", str(tmp_path / "file.pth"), "--precision", "int8"]
    arguments += ["--with", str(tmp_path / "more.pth"), "--with", str(tmp_path / "file.pth")]
    code, _, err = run("models", "convert", *arguments, "--pictures", str(tmp_path / "sweets"), "--json")
    assert code == 0, err
    name, _, _, _, labels, precision, pictures, beside = asked
    assert beside == [tmp_path / "more.pth", tmp_path / "file.pth"]
    assert (name, labels, precision) == ("focalnet-tiny-srf", None, "int8")
    assert (pictures.name, pictures.labels, pictures.truth) == ("sweets", ("mint", "plum"), (0, 1))
    first, second = pictures.tensors(ImagePreprocess(size=32))
    assert first.shape == (3, 32, 32) and first[1].mean() > second[1].mean()
    (tmp_path / "sweets" / "mint" / "a.png").write_bytes(b"no picture")
    with pytest.raises(Problem) as caught:
        list(pictures.tensors(ImagePreprocess(size=32)))
    assert str(tmp_path / "sweets" / "mint" / "a.png") in caught.value.detail
    (tmp_path / "empty").mkdir()
    code, _, err = run("models", "convert", *arguments, "--pictures", str(tmp_path / "empty"), "--json")
    assert code == 2 and "no folders with pictures" in err


def test_a_damaged_model_fails_its_check(run: Run, tmp_path: Path) -> None:
    root = tmp_path / "data" / "models"
    tiny_models.add_all(root)
    victim = next(root.glob("*/*/model.onnx"))
    name = victim.parents[1].name
    code, out, _ = run("models", "verify", name)
    assert code == 0 and "ok" in out
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    code, out, _ = run("models", "verify", name, "--json")
    assert code == 1 and json.loads(out)[0]["ok"] is False


def test_an_imported_model_is_served_from_then_on_and_can_be_removed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "own.onnx").write_bytes(tiny_models.classifier())
    (tmp_path / "labels.txt").write_text("\n".join(tiny_models.LABELS))
    arguments = ["models", "import", str(tmp_path / "own.onnx"), "--name", "own", "--task", "classify"]
    arguments += ["--labels", str(tmp_path / "labels.txt"), "--preprocess", f"imagenet-{tiny_models.IMAGE_SIZE}"]
    code, out, err = run(*arguments, "--json")
    assert code == 0, err
    assert json.loads(out)["version"] == "1"
    assert run("models", "info", "own")[0] == 0
    assert run("models", "remove", "own", "--yes")[0] == 0
    assert run("models", "info", "own")[0] == 1


def test_a_model_that_a_pipeline_is_made_of_is_removed_after_it_or_by_force(run: Run, tmp_path: Path) -> None:
    root = tiny_models.add_all(tmp_path / "data/models")
    pipeline = {"kind": "dual-encoder", "parts": {"image": "tiny-classifier@1", "text": "tiny-text@1"}}
    card = tiny_models.card("tiny-open", task="zero-shot-classify").model_dump()
    tiny_models.write(root, Card.model_validate(card | {"pipeline": pipeline}), {})

    for arguments in (("tiny-classifier",), ("tiny-text", "--version", "1")):
        code, _, err = run("models", "remove", *arguments, "--yes")
        said = " ".join(err.split())
        assert code == 1 and "'tiny-open' version 1 is made of" in said
        assert "sightline models remove tiny-open" in said and "--force" in said
    assert run("models", "remove", "tiny-text", "--force", "--yes")[0] == 0
    assert run("models", "remove", "tiny-open", "--yes")[0] == 0
    assert run("models", "remove", "tiny-classifier", "--yes")[0] == 0


@pytest.mark.parametrize("size", ["height", "=3", "height=x", "height=0"])
def test_an_axis_size_that_is_none_is_a_usage_error(run: Run, tmp_path: Path, size: str) -> None:
    (tmp_path / "own.onnx").write_bytes(b"")
    arguments = ["models", "import", str(tmp_path / "own.onnx"), "--name", "own", "--task", "tensor", "--size", size]
    assert run(*arguments)[0] == 2


def test_labels_are_split_as_the_api_does(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("a cat\n\n a dog, a big one \n")
    assert split_labels(["a cat, a dog"]) == ["a cat", "a dog"]
    assert split_labels(["red, round", "blue"]) == ["red, round", "blue"]
    assert split_labels([f"@{tmp_path / 'labels'}"]) == ["a cat", "a dog, a big one"]


def test_classify_shows_every_label_with_its_score(run: Run, platform: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "p.jpg").write_bytes(b"a cat")
    code, out, _ = run("classify", str(tmp_path / "p.jpg"), "--labels", "a cat,a dog", "--top-k", "2")
    assert code == 0 and "a cat" in out and "75.0%" in out and "none of these" in out
    assert platform[0]["labels"] == ["a cat", "a dog"] and platform[0]["top_k"] == 2


def test_explain_writes_one_map_or_a_folder_of_them(run: Run, platform: list[dict[str, Any]], tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jpg").write_bytes(name.encode())
    one, two = str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")
    assert run("classify", one, "--labels", "a,b", "--explain", str(tmp_path / "map.png"))[0] == 0
    assert (tmp_path / "map.png").read_bytes() == b"map of a"
    assert run("classify", one, two, "--labels", "a,b", "--explain", str(tmp_path / "maps"))[0] == 0
    assert [path.read_bytes() for path in sorted((tmp_path / "maps").iterdir())] == [b"map of a", b"map of b"]
    assert (tmp_path / "maps" / "0001-b.png").is_file()
    asked = len(platform)
    code, _, err = run("classify", one, two, "--labels", "a,b", "--explain", str(tmp_path / "map.png"))
    assert code == 2 and "name a folder" in err and len(platform) == asked
    run("classify", one, "--labels", "a,b")
    assert "explain" not in platform[-1]


def test_a_folder_is_classified_in_batches_one_json_line_a_picture(
    run: Run, platform: list[dict[str, Any]], tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for index in range(20):
        (folder / f"{index:02}.jpg").write_bytes(f"thing {index}".encode())
    (folder / "deep" / "x.PNG").write_bytes(b"deep thing")
    (folder / "notes.txt").write_text("no picture")
    code, out, _ = run("classify", str(folder), "--labels", "a,b", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(lines) == 21 and [len(body["images"]) for body in platform] == [16, 5]
    for line in lines:
        assert Path(line["image"]).read_bytes().decode() == line["predictions"][0]["label"]


def test_a_refused_picture_does_not_take_the_others_with_it(
    run: Run, platform: list[dict[str, Any]], tmp_path: Path
) -> None:
    contents = {"a.jpg": b"a", "b.jpg": b"bad", "c.jpg": b"c", "d.jpg": b"bad too", "e.jpg": b"e"}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    names = [str(tmp_path / name) for name in contents]
    code, out, _ = run("classify", *names, "--labels", "a,b", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 1 and [Path(line["image"]).name for line in lines] == list(contents)
    assert [line["error"]["code"] if "error" in line else line["predictions"][0]["label"] for line in lines] == [
        "a", "image-unknown", "c", "image-unknown", "e",
    ]  # fmt: skip


def test_one_refused_picture_alone_is_a_failure_with_its_remedy(
    run: Run, platform: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "p.jpg").write_bytes(b"bad")
    code, _, err = run("classify", str(tmp_path / "p.jpg"), "--labels", "a")
    assert code == 1 and "Send a picture." in err


def test_a_missing_picture_is_named(run: Run, platform: list[dict[str, Any]]) -> None:
    code, _, err = run("classify", "/no/such/picture.jpg", "--labels", "a")
    assert code == 1 and "/no/such/picture.jpg" in err and platform == []


def test_nobody_serving_says_how_to_start(run: Run) -> None:
    code, _, err = run("embed", "a text", "--url", "http://127.0.0.1:9")
    assert code == 1 and "sightline serve" in err


def test_sizes_are_for_people() -> None:
    assert [output.size(n) for n in (0, 999, 24_670_000, 5_000_000_000_000)] == ["0 B", "999 B", "24.7 MB", "5000.0 GB"]
