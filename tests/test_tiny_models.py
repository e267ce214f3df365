"""The tiny models that other tests lean on are sound."""

from pathlib import Path

import onnxruntime

from models.catalog.card import Card
from tests.support.tiny_models import LABELS


def test_repository_holds_readable_cards_and_runnable_models(repository: Path) -> None:
    names = sorted(folder.name for folder in repository.iterdir())
    assert names == ["tiny-adder", "tiny-classifier", "tiny-echo", "tiny-text"]
    for name in names:
        folder = repository / name / "1"
        card = Card.read(folder)
        session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
        assert [spec.name for spec in card.inputs] == [given.name for given in session.get_inputs()]
        assert set(card.files) == {path.name for path in folder.iterdir()} - {"card.json"}
    assert (repository / "tiny-classifier/1/labels.txt").read_text().split() == list(LABELS)
