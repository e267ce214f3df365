"""Cells learn the boxes that they fit, ignored ones teach nothing, and a training goes on as if it never stopped."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from models.catalog.geometry import LongerSide
from models.nanodet.network import NanoDet, NanoDetConfig, grid
from services.datasets.package import Checked, Package, write
from services.datasets.samples import Box, Sample
from services.errors import Problem
from services.finetuning.detection.assignment import BACKGROUND, IGNORED, assign, pairwise_iou
from services.finetuning.detection.losses import detection_loss, dfl, giou, qfl
from services.finetuning.detection.network import likeness, with_classes
from services.finetuning.detection.photos import Objects, Photos, mirrored, stacked
from services.finetuning.detection.probing import probe
from services.finetuning.detection.scoring import document, score
from services.finetuning.detection.training import Hooks, Settings, train
from services.media.intake import Limits
from services.settings import Settings as Deployment

NONE = torch.zeros(0, 4)
CELLS = torch.cat([grid(torch.zeros(1, 1, 64 // stride, 64 // stride), stride) for stride in (8, 16, 32, 64)])


def objects(boxes, labels=None, ignored=()):
    found = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    names = torch.tensor(labels if labels is not None else [0] * len(found))
    return Objects(found, names, torch.tensor(ignored, dtype=torch.float32).reshape(-1, 4))


def test_every_box_is_learned_by_some_cell_even_a_tiny_one() -> None:
    shown = objects([[4, 4, 60, 60], [30, 30, 34, 33], [50, 2, 62, 12]])
    owner = assign(CELLS, shown)
    assert set(owner[owner >= 0].tolist()) == {0, 1, 2}
    for cell in torch.nonzero(owner == 0)[:, 0]:
        x, y, _ = CELLS[cell].tolist()
        assert 4 < x < 60 and 4 < y < 60


def test_cells_in_an_ignored_box_are_neither_background_nor_learned() -> None:
    owner = assign(CELLS, objects([[2, 2, 20, 20]], ignored=[[30, 30, 62, 62]]))
    inside = ((CELLS[:, :2] > 30) & (CELLS[:, :2] < 62)).all(dim=1)
    assert (owner[inside] == IGNORED).all() and (owner[~inside & (owner < 0)] == BACKGROUND).all()


def test_an_empty_photo_is_background_alone() -> None:
    assert (assign(CELLS, objects([])) == BACKGROUND).all()
    logits = torch.zeros(1, len(CELLS), 2, requires_grad=True)
    boxes = torch.zeros(1, len(CELLS), 4)
    loss = detection_loss(logits, torch.zeros(1, len(CELLS), 4, 8), boxes, CELLS, [objects([])])
    loss.backward()
    assert torch.isfinite(loss) and (logits.grad > 0).all()


def test_losses_vanish_where_nothing_is_to_be_learned() -> None:
    box = torch.tensor([[10.0, 10, 30, 40]])
    overlap, gap = giou(box, box)
    assert overlap.item() == pytest.approx(1) and gap.item() == pytest.approx(0, abs=1e-6)
    _, far = giou(box, box + 100)
    assert far.item() > 1  # beyond 1 - IoU: it still says where to go
    assert qfl(torch.tensor([0.0]), torch.tensor([0.5])).item() == pytest.approx(0)
    cells = torch.tensor([[16.0, 16, 8]])
    bins = torch.full((1, 4, 8), -40.0)
    bins[..., 2] = 40  # two strides to each side
    assert dfl(bins, cells, torch.tensor([[0.0, 0, 32, 32]])).item() == pytest.approx(0, abs=1e-6)
    assert pairwise_iou(box, torch.cat((box, box + 100))).tolist() == [[pytest.approx(1), 0]]


def test_rows_of_new_classes_begin_as_those_that_they_are_called_like() -> None:
    mix = likeness(torch.tensor([[1.0, 0.1], [0, 1]]), torch.eye(2))
    assert mix.argmax(dim=1).tolist() == [0, 1] and mix.sum(dim=1).tolist() == pytest.approx([1, 1])
    torch.manual_seed(0)
    base = NanoDet(NanoDetConfig(num_classes=2)).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        _, logits, bins, _ = base.raw(image)
        _, mixed, same, _ = with_classes(base, torch.eye(2)[[1, 0, 1]]).eval().raw(image)
    assert torch.allclose(mixed, logits[..., [1, 0, 1]], atol=1e-5) and torch.allclose(same, bins, atol=1e-5)


@pytest.fixture
def package(tmp_path):
    """Six pictures of red and of blue squares on grey; one more square in each is a crowd."""
    random = np.random.default_rng(0)
    samples = []
    for number in range(6):
        pixels = np.full((60, 80, 3), 128, np.uint8)
        x, y = (int(value) for value in random.integers(2, 30, 2))
        label = number % 2
        pixels[y : y + 26, x : x + 26] = (220, 20, 20) if label == 0 else (20, 20, 220)
        file = tmp_path / f"{number}.png"
        Image.fromarray(pixels).save(file)
        boxes = (Box(label, (x, y, x + 26, y + 26)), Box(0, (60, 40, 78, 58), ignore=True), Box(1, (1, 1, 1.5, 1.5)))
        samples.append(Checked(Sample(file.name, "train", (label,), boxes), file, 80, 60))
    write(tmp_path / "set.zip", "squares", "detection", ["red", "blue"], "coco", samples)
    with Package(tmp_path / "set.zip") as opened:
        yield opened


def photos(package):
    return Photos(package, package.split("train"), LongerSide(size=64, multiple=32), Limits.of(Deployment()))


def test_boxes_follow_their_photo_and_what_cannot_be_learned_is_ignored(package) -> None:
    photo = photos(package)[0]
    assert photo.image.shape == (3, 64, 64)
    left, top, right, bottom = package.samples[0].sample.boxes[0].xyxy
    scale = 64 / 80
    assert photo.objects.boxes.tolist() == [pytest.approx([left * scale, top * scale, right * scale, bottom * scale])]
    assert len(photo.objects.ignored) == 2  # the crowd, and the box of half a pixel
    turned = mirrored(photo)
    assert turned.objects.boxes[0].tolist() == pytest.approx(
        [64 - right * scale, top * scale, 64 - left * scale, bottom * scale]
    )
    assert stacked([photo, turned], torch.zeros(3)).shape == (2, 3, 64, 64)


def run_training(package, passes, kept=None, stop=None):
    torch.manual_seed(1)
    network = NanoDet(NanoDetConfig(num_classes=2))
    states = {}
    settings = Settings("full", 1e-3, 0.05, 2, passes, seed=3)
    hooks = Hooks(
        lambda number, share, loss: None,
        lambda done, state: states.update({done: state()}),
        kept,
        lambda: stop is not None and len(states) >= stop,
    )
    done = train(network, photos(package), settings, torch.zeros(3), hooks)
    return network, states, done


def test_a_training_that_was_stopped_goes_on_as_if_it_never_was(package) -> None:
    whole, _, done = run_training(package, 2)
    assert done == 2
    _, states, first = run_training(package, 2, stop=1)
    assert first == 1
    resumed, _, _ = run_training(package, 2, kept=(1, states[1]))
    for name, tensor in whole.state_dict().items():
        assert torch.allclose(tensor, resumed.state_dict()[name], atol=1e-6), name


def test_low_rank_training_changes_pointwise_convolutions_and_leaves_plain_weights(package) -> None:
    torch.manual_seed(1)
    network = NanoDet(NanoDetConfig(num_classes=2))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    hooks = Hooks(lambda *told: None, lambda *kept: None, None, lambda: False)
    train(network, photos(package), Settings("lora", 1e-2, 0, 3, 1, 0), torch.zeros(3), hooks)
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert set(before) == set(network.state_dict())
    assert "backbone.stage3.1.branch2.0.weight" in changed and "head.gfl_cls.0.weight" in changed
    assert "backbone.stage3.1.branch2.3.weight" not in changed and "backbone.conv1.0.weight" not in changed


def test_a_probe_without_any_box_to_learn_from_is_refused(package) -> None:
    empty = photos(package)
    empty.samples = [
        type(one)(Sample(one.sample.path, "train"), one.image, one.width, one.height) for one in empty.samples
    ]
    with pytest.raises(Problem, match="No box that the detector proposes"):
        probe(NanoDet(NanoDetConfig(num_classes=3)).eval(), empty, torch.full((2, 3), 1 / 3), lambda done: None)


def test_ignored_boxes_are_crowds_to_the_score(package) -> None:
    truth = document(package.split("train"), ["red", "blue"])
    assert [note["iscrowd"] for note in truth["annotations"][:3]] == [0, 1, 0]

    class Perfect(torch.nn.Module):
        """Finds the square of each photo in turn, and something in the crowd."""

        number = -1

        def forward(self, images):
            self.number += 1
            box = photos(package)[self.number].objects
            scores = torch.zeros(1, 2, 2)
            scores[0, 0, box.labels[0]] = 0.9
            scores[0, 1, 0] = 0.95
            return torch.stack((box.boxes[0], box.ignored[0]))[None], scores, torch.zeros(1, 2, 1)

    for stored in package.samples:
        assert stored.sample.boxes[1].ignore
    without_tiny = [
        type(one)(Sample(one.sample.path, "train", (), one.sample.boxes[:2]), one.image, one.width, one.height)
        for one in package.samples
    ]
    own = photos(package)
    own.samples = without_tiny
    assert score(Perfect(), own, ["red", "blue"], lambda done: None).ap == pytest.approx(1)
