"""What a refused import says helps does help: each test reads a remedy, follows it, and has the model in the end."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import parser, version_converter

from models.errors import ModelError
from models.intake.importing import About, import_onnx
from models.intake.presets import preset
from models.pull import not_installed
from tests.support import tiny_detectors

WEIGHTS = "float[3,2] w = {1.0, -1.0, 0.5, 0.25, -0.75, 2.0}"
POOLED = "pooled = GlobalAveragePool(image) rows = Flatten(pooled)"


def graph(
    body: str = f"{POOLED} logits = MatMul(rows, w)",
    inputs: str = "float[N,3,8,8] image",
    outputs: str = "float[N,2] logits",
    opset: int = 17,
) -> onnx.ModelProto:
    head = f'<ir_version: 8, opset_import: ["" : {opset}]>'
    return parser.parse_model(f"{head} g ({inputs}) => ({outputs}) <{WEIGHTS}> {{ {body} }}")


How = dict[str, Any]
CLASSIFY: How = {"task": "classify", "preprocess": "unit-8"}
TENSOR: How = {"task": "tensor", "preprocess": None}
DETECT: How = {"task": "detect", "preprocess": "yolo-64"}
LABELS = {"classify": "labels.txt", "detect": "colours.txt"}


class Bench:
    """Imports models, and gives the remedy of one that is refused."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "labels.txt").write_text("cat\ndog\n")
        (folder / "colours.txt").write_text("\n".join(tiny_detectors.COLOURS))

    def take(self, model: onnx.ModelProto | Path, **how: Any) -> None:
        if isinstance(model, onnx.ModelProto):
            (self.folder / "m.onnx").write_bytes(model.SerializeToString())
            model = self.folder / "m.onnx"
        wanted = {**CLASSIFY, **how}
        about, most = About(**wanted.pop("about", {})), wanted.pop("max_bytes", 4 << 30)
        labels = self.folder / LABELS[wanted["task"]] if wanted["task"] in LABELS else None
        import_onnx(
            model, "mine", wanted["task"], self.folder / "r", labels=labels, preprocess=wanted["preprocess"],
            about=about, max_bytes=most,
        )  # fmt: skip

    def remedy(self, model: onnx.ModelProto | Path, **how: Any) -> str:
        with pytest.raises(ModelError) as refusal:
            self.take(model, **how)
        assert " ..." not in str(refusal.value)  # nothing is cut
        return refusal.value.remedy


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def found(pattern: str, text: str) -> str:
    """What the remedy names; a remedy without it fails the test."""
    match = re.search(pattern, text)
    assert match is not None, text
    return match[1]


def test_an_input_of_another_side_names_a_preprocessing_that_fits(bench: Bench) -> None:
    for shape, side in (("N,3,64,64", 64), ("N,3,H,16", 16)):
        model = graph(inputs=f"float[{shape}] image")
        said = bench.remedy(model)
        assert found(r"as (imagenet-\d+)", said) == f"imagenet-{side}"
        bench.take(model, preprocess=f"imagenet-{side}")


def test_an_input_that_no_square_fits_is_taken_with_free_sides_or_as_tensor(bench: Bench) -> None:
    for shape in ("N,3,64,128", "N,3,4,4", "N,3,4096,4096"):
        for tried in ("unit-64", "unit-128"):
            said = bench.remedy(graph(inputs=f"float[{shape}] image"), preprocess=tried)
            assert "imagenet-" not in said and "import it as tensor" in said
    bench.take(graph(inputs="float[N,3,64,128] image"), **TENSOR)
    bench.take(graph(inputs="float[N,3,H,W] image"), preprocess="unit-64")


@pytest.mark.parametrize(
    ("inputs", "body"),
    [
        ("float[N,8,8,3] image", "t = Transpose<perm = [0,3,1,2]>(image) p = GlobalAveragePool(t) rows = Flatten(p)"),
        ("float[N,1,8,8] image", "p = GlobalAveragePool(image) s = Flatten(p) rows = Concat<axis = 1>(s, s, s)"),
        ("float[N,3,8,8] image, float[N,3] more", f"{POOLED} "),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_taken_as_a_tensor_model(bench: Bench, inputs: str, body: str) -> None:
    model = graph(f"{body} logits = MatMul(rows, w)", inputs)
    assert "tensor" in bench.remedy(model)
    bench.take(model, **TENSOR)


def test_a_later_opset_names_the_newest_that_runs(bench: Bench) -> None:
    newest = found(r"opset (\d+) or lower", bench.remedy(graph(opset=90)))
    bench.take(graph(opset=int(newest)))
    assert found(r"opset (\d+) or lower", bench.remedy(graph(opset=int(newest) + 1))) == newest


def test_an_older_opset_is_converted(bench: Bench) -> None:
    old = graph(opset=6)
    said = bench.remedy(old)
    assert "onnx.version_converter" in said
    bench.take(version_converter.convert_version(old, int(found(r"opset (\d+) or later", said))))


def test_a_later_format_names_the_version_to_set(bench: Bench) -> None:
    model = graph()
    model.ir_version = 60
    model.ir_version = int(found(r"set model\.ir_version = (\d+)", bench.remedy(model)))
    bench.take(model)


def test_a_free_axis_names_the_option_that_gives_it_a_size(bench: Bench) -> None:
    model = graph("a = MatMul(x, w) b = Flatten(z) y = Concat<axis = 1>(a, b)",
                  "float[N,K] x, float[N,L,M] z", "float[N,C] y")  # fmt: skip
    said = bench.remedy(model, **TENSOR)
    axes = re.findall(r"--size (\w+)=N", said)
    assert axes == ["K", "L", "M"]
    bench.take(model, **TENSOR, about={"sizes": dict.fromkeys(axes, 3)})


def test_several_outputs_name_the_option_that_chooses(bench: Bench) -> None:
    model = graph(f"{POOLED} one = MatMul(rows, w) two = Neg(one)", outputs="float[N,2] one, float[N,2] two")
    bench.take(model, about={"output": found(r"--output (\w+)", bench.remedy(model))})


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_batch_that_is_fixed_is_exported_free(bench: Bench) -> None:
    import torch

    class Mean(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3))[:, :2] @ torch.eye(2)

    said = bench.remedy(graph(inputs="float[4,3,8,8] image", outputs="float[4,2] logits"))
    free = found(r"torch\.onnx\.export\(\.\.\., dynamic_shapes=(\{.*\})\)", said)
    file = bench.folder / "exported.onnx"
    torch.onnx.export(
        Mean().eval(), (torch.zeros(2, 3, 8, 8),), file, dynamic_shapes=eval(free), dynamo=True, verbose=False
    )
    bench.take(file)


def test_what_the_checker_is_said_to_find_it_finds(bench: Bench) -> None:
    broken = graph(f"{POOLED} logits = MatMul(image, w)")
    said = bench.remedy(broken)
    assert "onnx.checker.check_model(model, full_check=True)" in said
    with pytest.raises(Exception, match="MatMul"):
        onnx.checker.check_model(broken, full_check=True)


def test_a_file_above_the_limit_names_the_option_and_a_size_that_is_enough(bench: Bench) -> None:
    model = graph()
    assert found(r"--max-gib (\d+)", bench.remedy(model, max_bytes=100)) == "1"
    bench.take(model, max_bytes=1 << 30)


def test_a_preprocessing_that_is_none_lists_those_that_are(bench: Bench) -> None:
    model = graph(inputs="float[N,3,H,W] image")
    said = {bench.remedy(model, preprocess=text) for text in ("imagenet", "imagenet-4", "imagenet-4000", "nothing-64")}
    (one,) = said
    least, most = re.findall(r"\((\d+) to (\d+)\)", one)[0]
    assert preset(f"imagenet-{most}")
    for name in re.findall(r"(\w+)-N:", one):
        bench.take(model, preprocess=f"{name}-{least}")


def test_a_request_without_preprocessing_names_some_that_are_taken(bench: Bench) -> None:
    model = graph(inputs="float[N,3,H,W] image")
    said = bench.remedy(model, preprocess=None)
    for name in re.findall(r"\w+-224", said):
        bench.take(model, preprocess=name)
    for task in found(r"tasks are (.*)", bench.remedy(model, task="embed-text", preprocess=None)).split(", "):
        if task == "detect":
            bench.take(onnx.load_from_string(tiny_detectors.yolov8()), **DETECT)
        else:
            bench.take(model, **(TENSOR if task == "tensor" else {"task": task}))


def test_every_command_that_a_remedy_names_has_the_options_it_names() -> None:
    from typer.main import get_command

    from sightline.cli.models import app

    command = get_command(app).commands["import"]  # type: ignore[attr-defined]
    options = {name for parameter in command.params for name in parameter.opts}
    root = Path(sys.modules["models"].__file__ or "").parent
    named = {
        name for file in (root / "intake").glob("*.py") for name in re.findall(r"--[a-z-]+[a-z]", file.read_text())
    }
    assert named - {"--file"} <= options and len(named) > 6


def test_a_model_that_is_not_there_is_pulled_where_it_can_be(tmp_path: Path) -> None:
    assert "sightline models pull minilm-l6" in not_installed("minilm-l6", tmp_path).remedy
    assert "pull" not in not_installed("my-own", tmp_path).remedy
