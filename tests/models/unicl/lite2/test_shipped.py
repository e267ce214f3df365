"""What ships: towers and arrays are of one small file, and the page says what the card says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from PIL import Image

from models.catalog.catalog import Catalog
from models.catalog.labels import label_set
from models.errors import ModelError
from models.progress import silent
from models.unicl.lite2.export import WEIGHTS, arrays, read_weights
from models.unicl.lite2.network import PhotoUniCL
from models.unicl.lite2.pictures import Features
from models.unicl.lite2.space import unit
from models.zero_shot.build import read_classifier, read_shifts
from models.zero_shot.fit import Classifier
from models.zero_shot.nouns import Hierarchy, Nouns
from models.zero_shot.texts import embed
from services.classification.calibration import Calibration
from services.encoding.shared_space import SharedSpace

PAGE = Path(__file__).parents[4] / "docs" / "models" / "unicl-lite2.md"
PHOTOS = Path(skimage.__file__).parent / "data"
CATALOG = Catalog.read()
NAMES = ("unicl-lite2", "unicl-lite2-image", "unicl-lite2-text")


@pytest.fixture(scope="module")
def model() -> PhotoUniCL:
    return read_weights(WEIGHTS, str(CATALOG.entry("unicl-lite2").options["weights"]))


def test_all_parts_are_of_the_same_small_file() -> None:
    hashes = {CATALOG.entry(name).options["weights"] for name in NAMES}
    hashes |= {
        one.sha256 for name in NAMES for one in CATALOG.entry(name).card.provenance if one.source.startswith("models/")
    }
    assert len(hashes) == 1 and WEIGHTS.stat().st_size < 10_000_000


def test_other_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(WEIGHTS.read_bytes()[:-1] + b"\0")
    with pytest.raises(ModelError, match="not the file that the catalog means"):
        read_weights(tmp_path / "weights", str(CATALOG.entry("unicl-lite2").options["weights"]))


def test_its_numbers_are_finite_and_its_rows_tell_classes_apart(model: PhotoUniCL) -> None:
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
    names, nouns = label_set("imagenet-1k"), Nouns.read()
    stand_in = np.random.default_rng(0).standard_normal((len(names), model.see.shape[0])).astype(np.float32)
    classifier = Classifier(stand_in, stand_in[:, 0], names, np.zeros((len(names), 0), np.float32), np.arange(1000))
    data = arrays(model, classifier, nouns, Hierarchy(nouns), *read_shifts())
    parameters = CATALOG.entry("unicl-lite2").card.pipeline.parameters  # type: ignore[union-attr]
    space = SharedSpace(data, parameters)
    rows = space.rows(names, np.zeros((len(names), space.dimensions), np.float32))[:, :-1]
    likeness = rows @ rows.T
    dogs, birds = slice(151, 269), slice(80, 101)  # by meaning alone: the texts are zero
    assert min(likeness[dogs, dogs].mean(), likeness[birds, birds].mean()) > likeness[dogs, birds].mean() + 0.1


def test_the_page_says_what_the_card_says() -> None:
    page = PAGE.read_text("utf-8")
    for figure in CATALOG.entry("unicl-lite2").card.measured:
        assert f"{100 * figure.value:.1f}" in page, f"{figure.dataset}: {figure.value}"


@pytest.mark.weights
def test_photos_are_named(default_models: Path, model: PhotoUniCL) -> None:
    """The licence-free samples of scikit-image, through the frozen networks and the weights that ship."""
    labels = ["a cat", "a dog", "a cup of coffee", "a rocket", "a motorcycle", "a bus", "coins"]
    photos = [Image.open(PHOTOS / name).convert("RGB") for name in ("chelsea.png", "coffee.png", "rocket.jpg")]
    classifier = read_classifier(default_models, "efficientnet-lite2", "minilm-l6", silent)
    nouns = Nouns.read()
    data = arrays(model, classifier, nouns, Hierarchy(nouns), *read_shifts())
    parameters = CATALOG.entry("unicl-lite2").card.pipeline.parameters  # type: ignore[union-attr]
    space, calibration = SharedSpace(data, parameters), Calibration.of(parameters)
    sides = np.full(len(photos), 300, np.float32)
    features = Features(default_models / "efficientnet-lite2" / "1")(photos)
    texts = unit(embed(default_models / "minilm-l6" / "1", labels, silent))
    with torch.no_grad():
        rows = space.rows(labels, model.text(torch.from_numpy(texts)).numpy())
        seen = (torch.from_numpy(features) @ model.see).numpy()
    scored = calibration.scored(space.evidence(seen, rows, sides))
    assert scored.logits.argmax(axis=1).tolist() == [0, 2, 3]
    assert scored.none is not None and scored.none.max() < 0.5
    others = space.rows(["a pizza", "a violin"], np.zeros((2, space.dimensions), np.float32))
    missing = calibration.scored(space.evidence(seen, others, sides)).none
    assert missing is not None and missing.min() > 0.5
