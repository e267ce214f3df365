"""A user's own detector is recognised from its outputs, and answers the known boxes once it is served."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from PIL import Image
from typer.testing import CliRunner

from gateway.app import create_app
from models.catalog.card import Card
from models.catalog.detection import Detection
from models.catalog.geometry import ShorterSide, Stretched
from models.intake.detector_forms import Outputs, detector_form
from models.intake.importing import About, import_onnx
from models.intake.onnx_file import ImportRefused
from models.intake.presets import preset
from services.settings import Settings
from sightline.cli.main import app as command
from tests.support import tiny_detectors, tiny_models
from tests.support.asgi import client
from tests.support.tiny_detectors import COLOURS, SIDE, png, quarters

CORNERS = quarters((250, 0, 0), (0, 240, 0), (0, 0, 230), "black")
WHERE = {"red": [0, 0, 32, 32], "green": [32, 0, 64, 32], "blue": [0, 32, 32, 64]}
FORMS = {
    "yolov8": "yolo-64",
    "yolov5": "yolo-64",
    "yolox": "unit-64",
    "rt-detr": "unit-64",
    "rt-detr-boxes": "unit-64",
    "detr": "unit-64",
    "ssd": "unit-64x64",
    "yolo-nms": "yolo-64",
    "yolov7-nms": "yolo-64",
    "torchvision": "unit-64",
    "tf-ssd": "unit-64x64",
    "efficient-nms": "yolo-64",
    "boxes-scores": "unit-64",
}
"""By form as its exporter writes it; :func:`tiny_detectors.detector`."""


def take(folder: Path, root: Path, form: str, about: About | None = None, classes: tuple[str, ...] = COLOURS) -> Card:
    (folder / "labels.txt").write_text("\n".join(classes))
    (folder / f"{form}.onnx").write_bytes(tiny_detectors.detector(form))
    return import_onnx(
        folder / f"{form}.onnx",
        f"mine-{form}",
        "detect",
        root,
        labels=folder / "labels.txt",
        preprocess=FORMS[form],
        about=about,
    )


IMPORTED = ("yolov5", "yolov7-nms", "rt-detr-boxes", "yolox")
"""Those whose graph an import changes, and one; of the others the recognition alone is run."""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a detector of every form."""
    folder = tmp_path_factory.mktemp("forms")
    for form in FORMS:
        (take if form in IMPORTED else recognise)(folder, folder / "models", form)
    return folder / "models"


def recognise(folder: Path, root: Path, form: str) -> None:
    """Write a version as an import does, without its process for the trial."""
    model, image = tiny_detectors.detector(form), preset(FORMS[form])
    noise = np.random.default_rng(0).standard_normal((1, 3, SIDE, SIDE)).astype(np.float32)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    answers = dict(zip(names, session.run(names, {"images": noise}), strict=True))
    found = detector_form(Outputs.of(answers, len(COLOURS), (SIDE, SIDE)))
    assert found.name == form
    card = tiny_models.card(
        f"mine-{form}",
        model,
        task="detect",
        image=image.model_copy(update={"input": "images"}),
        label_set="labels.txt",
        roles=dict(found.roles),
        detection=Detection(nms_iou=None if found.finished else 0.6, decode=found.decode),
    )
    tiny_models.write(root, card, {"model.onnx": model, "labels.txt": "\n".join(COLOURS).encode()})


async def test_every_form_is_recognised_and_finds_the_known_boxes(imported: Path, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, log_level="warning")
    settings.models_dir.symlink_to(imported)
    image = base64.b64encode(png(CORNERS)).decode()
    async with client(create_app(settings)) as http:
        for form in FORMS:
            body = {"model": f"mine-{form}", "images": [image, image], "threshold": 0.6}
            answer = await http.post("/v1/detect", json=body)
            assert answer.status_code == 200, (form, answer.text)
            for result in answer.json()["results"]:
                found = {one["label"]: one["box"] for one in result["detections"]}
                assert found == WHERE and len(result["detections"]) == 3, (form, result)


def test_the_card_says_how_it_is_read(imported: Path) -> None:
    cards = {form: Card.read(imported / f"mine-{form}" / "1") for form in FORMS}
    decodes = {form: card.detection.decode for form, card in cards.items() if card.detection is not None}
    assert decodes["yolox"] is not None and decodes["yolox"].strides == (8, 16, 32)
    assert decodes["detr"] is not None and (decodes["detr"].scores, decodes["detr"].background) == ("softmax", "last")
    assert decodes["rt-detr"] is not None and decodes["rt-detr"].scores == "sigmoid"
    assert decodes["tf-ssd"] is not None and (decodes["tf-ssd"].box, decodes["tf-ssd"].background) == ("yxyx", "first")
    needs_nms = {form for form, card in cards.items() if card.detection is not None and card.detection.nms_iou}
    assert needs_nms == {"yolov8", "yolov5", "yolox", "ssd", "boxes-scores"}
    assert cards["torchvision"].inputs[0].shape == (1, 3, 64, 64)
    assert "one by one" in cards["yolov7-nms"].provenance[0].note
    assert "orig_target_sizes" in cards["rt-detr-boxes"].provenance[0].note
    assert cards["yolov5"].inputs[0].shape == (-1, 3, 64, 64)


def test_a_wrong_number_of_labels_is_told_with_what_the_outputs_are(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match=r"with 2 labels.*output0 \[7, 4\]"):
        take(tmp_path, tmp_path / "models", "yolov8", classes=("red", "green"))
    assert not (tmp_path / "models" / "mine-yolov8").exists()


def test_a_form_can_be_told_and_must_fit(tmp_path: Path) -> None:
    card = take(tmp_path, tmp_path / "models", "yolov5", About(form="yolov5"))
    assert card.detection is not None and card.detection.decode is not None and card.detection.decode.objectness
    with pytest.raises(ImportRefused, match="not of the form detr"):
        take(tmp_path, tmp_path / "models", "yolov8", About(form="detr"))
    with pytest.raises(Exception, match="there is no form 'yolo99'"):
        take(tmp_path, tmp_path / "models", "yolov8", About(form="yolo99"))


def test_outputs_that_may_be_of_two_forms_are_asked_about(tmp_path: Path) -> None:
    """Six columns of zeros and one class: a finished detection, or YOLOv5's."""
    rows = helper.make_tensor("rows", TensorProto.FLOAT, [1, 4, 6], [0, 0, 1, 1, 0.5, 0] * 4)
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Reshape", ["mean", "three"], ["column"]),
        helper.make_node("Mul", ["column", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "rows"], ["out"]),
    ]
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 8, 8])]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 4, 6])]
    weights = [rows, helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])]
    weights.append(helper.make_tensor("three", TensorProto.INT64, [3], [-1, 1, 1]))
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    onnx.save(model, tmp_path / "two.onnx")
    (tmp_path / "labels.txt").write_text("thing")
    with pytest.raises(ImportRefused, match=r"several forms: yolov5, yolo-nms") as caught:
        import_onnx(
            tmp_path / "two.onnx", "two", "detect", tmp_path, labels=tmp_path / "labels.txt", preprocess="unit-8"
        )
    assert "--form yolov5" in (caught.value.remedy or "")


@pytest.mark.parametrize(
    ("labels", "preprocess", "why"), [(False, "yolo-64", "needs its labels"), (True, None, "yolo-640")]
)
def test_a_detector_needs_labels_and_preprocessing(
    tmp_path: Path, labels: bool, preprocess: str | None, why: str
) -> None:
    (tmp_path / "labels.txt").write_text("a")
    (tmp_path / "m.onnx").write_bytes(tiny_detectors.yolov8())
    given = tmp_path / "labels.txt" if labels else None
    with pytest.raises(Exception, match=r"detector needs|needs its preprocessing") as caught:
        import_onnx(tmp_path / "m.onnx", "m", "detect", tmp_path, labels=given, preprocess=preprocess)
    assert why in f"{caught.value} {getattr(caught.value, 'remedy', '')}"


def test_presets_of_detectors_fit_pictures_as_their_training_did() -> None:
    yolo, yolox = preset("yolo-640"), preset("yolox-416")
    assert (yolo.model_dump()["centred"], yolo.model_dump()["fill"]) == (True, (114, 114, 114))
    assert (yolox.channels, yolox.std) == ("bgr", pytest.approx((1 / 255,) * 3))
    assert preset("detr-800") == ShorterSide(size=800, max_size=1333)
    half = preset("half-320x240")
    assert isinstance(half, Stretched) and (half.width, half.height, half.mean) == (320, 240, (0.5, 0.5, 0.5))


def test_the_command_imports_and_draws_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.txt").write_text("\n".join(COLOURS))
    (tmp_path / "m.onnx").write_bytes(tiny_detectors.yolov8())
    (tmp_path / "photo.png").write_bytes(png(CORNERS))
    arguments = ["models", "import", "m.onnx", "--name", "mine", "--task", "detect", "--labels", "labels.txt"]
    arguments += ["--preprocess", "yolo-64", "--sample", "photo.png", "--data-dir", str(tmp_path / "data"), "--json"]
    said = CliRunner().invoke(command, arguments)
    assert said.exit_code == 0, said.output
    sample = json.loads(said.output)["sample"]
    assert (sample["boxes"], sample["best"]) == (3, "red 0.98")
    with Image.open(sample["file"]) as drawn:
        assert drawn.size == (64, 64)
