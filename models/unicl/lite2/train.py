"""Train ``unicl-lite2``: ``python -m models.unicl.lite2.train --space FILE --repository MODELS --out FILE``.

Every step hides some labels, regresses on a draw of the others, and takes the loss of UniCL (arXiv 2204.03610) between
the pictures of the hidden labels and where they were predicted to be. A picture of a tabby is one of a cat and of an
animal too: labels that subsume what a picture shows are its positives. One thread and less than a minute.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.progress import silent
from models.unicl.lite2.network import KernelHead, PhotoUniCL, pack
from models.unicl.lite2.space import Space, unit
from models.zero_shot.build import read_classifier
from models.zero_shot.fit import Classifier
from models.zero_shot.nouns import Hierarchy, Nouns

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Recipe:
    """A step hides ``classes``, ``kinds`` and ``concepts`` and regresses on ``anchors`` others in each head.

    ``noise``: length of what is added to a class's row, half of it features of other pictures, to make a picture of it.
    ``kind_weight`` and ``concept_weight`` say how far such a label is trusted as an anchor, ``picture_weight`` what a
    pictograph counts in the loss, ``unknown`` how often a meaning is withheld.
    """

    steps: int = 80
    learning_rate: float = 0.02
    text_rate: float = 0.05
    meaning_rate: float = 0.1
    see_rate: float = 0.02
    dim: int = 384
    metric: int = 192
    classes: int = 128
    kinds: int = 32
    concepts: int = 48
    anchors: int = 600
    noise: float = 0.8
    kind_weight: float = 0.3
    concept_weight: float = 0.1
    picture_weight: float = 0.2
    unknown: float = 0.25
    described: float = 0.3
    seed: int = 0


class Labels:
    """All labels of a run in one order: classes of ``classifier``, kinds above them, concepts with pictures.

    ``targets (L, D)`` is where each is in the space of pictures before training, ``above (L, L)`` whether the label of
    the column is or subsumes that of the row.
    """

    def __init__(self, space: Space, classifier: Classifier, nouns: Nouns, hierarchy: Hierarchy, recipe: Recipe):
        rows = classifier.weight.astype(np.float64) - classifier.weight.mean(axis=0)
        _, _, axes = np.linalg.svd(rows, full_matrices=False)
        self.see = np.ascontiguousarray(axes[: recipe.dim].T, np.float32)  # (F, D)
        self.class_rows = (rows @ self.see).astype(np.float32)
        length = np.linalg.norm(self.class_rows, axis=1).mean()
        synsets = nouns.imagenet[classifier.classes].astype(np.int32)
        below = {s: own for s, own in hierarchy.classes_below(synsets.astype(np.uint16)).items() if len(own) > 1}
        self.members = [np.array(own) for own in below.values()]
        kinds = np.array(list(below), np.int32)
        self.counts = (len(synsets), len(kinds), len(space.concepts))
        self.synsets = np.concatenate([synsets, kinds, space.concept_synsets])
        self.pictures = unit(space.pictures @ self.see)
        self.own_pictures = [np.flatnonzero(space.owners == c) for c in range(len(space.concepts))]
        means = [self.class_rows[own].mean(axis=0) for own in self.members]
        means += [self.pictures[own].mean(axis=0) for own in self.own_pictures]
        self.targets = np.concatenate([self.class_rows, unit(np.array(means, np.float32)) * length])
        weights = (1.0, recipe.kind_weight, recipe.concept_weight)
        self.weights = np.repeat(np.array(weights, np.float32), self.counts)
        self.names = np.concatenate([space.names[space.places(self.synsets[: -len(space.concepts)])], space.concepts])
        self.descriptions = space.descriptions[space.places(synsets)]
        self.meanings = nouns.unit_vectors()[self.synsets.clip(0)]
        self.above = self._above(hierarchy)

    def _above(self, hierarchy: Hierarchy) -> NDArray[np.bool_]:
        at: dict[int, list[int]] = {}
        for index, synset in enumerate(self.synsets.tolist()):
            at.setdefault(synset, []).append(index)
        above = np.eye(len(self.synsets), dtype=bool)
        for index, synset in enumerate(self.synsets.tolist()):
            for ancestor in hierarchy.ancestors(synset) if synset >= 0 else ():
                above[index, at.get(ancestor, [])] = True
        return above


class Trainer:
    """One run. Every label gives the text head its name; classes also give it their descriptions."""

    def __init__(self, labels: Labels, recipe: Recipe) -> None:
        self.labels, self.recipe = labels, recipe
        classes = labels.counts[0]
        self.texts = torch.from_numpy(np.concatenate([labels.names, labels.descriptions]))
        self.said_of = np.concatenate([np.arange(len(labels.names)), np.arange(classes)])
        self.known = np.flatnonzero(labels.synsets >= 0)
        self.meanings = torch.from_numpy(labels.meanings)
        self.targets = torch.from_numpy(labels.targets)
        self.weights = torch.from_numpy(labels.weights)
        self.rows = F.normalize(torch.from_numpy(labels.class_rows), dim=1)
        self.spread = torch.from_numpy(np.sqrt((labels.class_rows**2).mean(axis=0)))
        self.pictures = torch.from_numpy(labels.pictures)
        _, _, axes = torch.linalg.svd(self.texts, full_matrices=False)
        # The picture side starts as the classifier's own axes; training turns and stretches them.
        self.turn = torch.eye(recipe.dim, requires_grad=True)
        self.model = PhotoUniCL(
            torch.from_numpy(labels.see),
            KernelHead(axes[: recipe.metric].T.contiguous(), width=4.0, ridge=0.5),
            KernelHead(torch.eye(labels.meanings.shape[1]), width=3.0, ridge=0.3),
        )
        rate, model = recipe.learning_rate, self.model
        single = [model.share, model.scale]
        single += [each for head in (model.text, model.meaning) for each in (head.width, head.ridge)]
        self.optimizer = torch.optim.Adam(
            [
                {"params": single, "lr": 2 * rate},
                {"params": [model.text.metric], "lr": rate * recipe.text_rate},
                {"params": [model.meaning.metric], "lr": rate * recipe.meaning_rate},
                {"params": [self.turn], "lr": rate * recipe.see_rate},
            ],
            betas=(0.9, 0.98),
        )
        self._rates = [float(group["lr"]) for group in self.optimizer.param_groups]

    def run(self) -> list[float]:
        """Train, settle on all labels, and return the losses."""
        losses = []
        for step in range(self.recipe.steps):
            rate = 0.5 * (1 + math.cos(math.pi * step / self.recipe.steps))
            for group, base in zip(self.optimizer.param_groups, self._rates, strict=True):
                group["lr"] = base * rate
            torch.manual_seed((self.recipe.seed << 32) + step)
            loss = self.loss(np.random.default_rng([self.recipe.seed, step]))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())

        self.settle()
        return losses

    def loss(self, rng: np.random.Generator) -> Tensor:
        """UniCL over the pictures of hidden labels."""
        recipe, (classes, kinds, _), model = self.recipe, self.labels.counts, self.model
        wanted = (recipe.classes, recipe.kinds, recipe.concepts)
        a, b, c = (rng.permutation(n)[:most] for n, most in zip(self.labels.counts, wanted, strict=True))
        hidden = np.concatenate([a, classes + b, classes + kinds + c])
        shown = np.concatenate([a, [rng.choice(self.labels.members[kind]) for kind in b]]).astype(np.intp)
        own = [rng.choice(self.labels.own_pictures[concept]) for concept in c]
        pictures = F.normalize(torch.cat([self._pictured(shown), self.pictures[own]]) @ self.turn, dim=1)
        labels = self.predict(hidden, rng)
        logits = model.scale.exp() * pictures @ labels.T
        positive = torch.from_numpy(self.labels.above[np.concatenate([shown, hidden[len(shown) :]])][:, hidden]).float()
        positive.fill_diagonal_(1)
        weights = torch.ones(len(hidden))
        weights[len(shown) :] = recipe.picture_weight
        to_text = -(positive / positive.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1)
        to_picture = -(positive / positive.sum(0) * logits.log_softmax(0)).sum(0)

        return ((to_text + to_picture) * weights).sum() / weights.sum() / 2

    def _pictured(self, classes: Indices) -> Tensor:
        """Something like unit features of pictures of ``classes``."""
        like = torch.randn(len(classes), len(self.spread)) * self.spread
        real = self.pictures[torch.randint(len(self.pictures), (len(classes),))]
        noise = torch.where(torch.rand(len(classes), 1) < 0.5, F.normalize(like, dim=1), real)
        return F.normalize(self.rows[classes] + self.recipe.noise * noise, dim=1)

    def predict(self, hidden: Indices, rng: np.random.Generator) -> Tensor:
        """``(H, D)``: where labels of which nothing is known but text and meaning are expected."""
        recipe, model, classes = self.recipe, self.model, self.labels.counts[0]
        others = rng.permutation(np.flatnonzero(~np.isin(self.said_of, hidden)))[: 2 * recipe.anchors]
        of = self.said_of[others]
        places = model.text.place(self.texts[others])
        solved = model.text.solve(places, self.targets[of], self._trust(of))
        described = (hidden < classes) & (rng.random(len(hidden)) < recipe.described)
        asked = np.where(described, len(self.labels.names) + hidden, hidden)
        text = model.text.kernel(model.text.place(self.texts[asked]), places) @ solved
        of = rng.permutation(self.known[~np.isin(self.known, hidden)])[: recipe.anchors]
        places = model.meaning.place(self.meanings[of])
        solved = model.meaning.solve(places, self.targets[of], self.weights[of])
        meaning = model.meaning.kernel(model.meaning.place(self.meanings[hidden]), places) @ solved
        known = torch.from_numpy((self.labels.synsets[hidden] >= 0) & (rng.random(len(hidden)) >= recipe.unknown))
        text, meaning = (F.normalize(each @ self.turn, dim=1) for each in (text, meaning))

        return model.labels(text, meaning, known.float())

    def _trust(self, of: Indices) -> Tensor:
        """Of texts: halved, since a class has two."""
        return self.weights[of] / 2

    @torch.no_grad()
    def settle(self) -> None:
        """Regress on everything, in the turned space."""
        self.model.see.copy_(self.model.see @ self.turn)
        targets = self.targets @ self.turn
        self.model.text.settle(self.texts, targets[self.said_of], self._trust(self.said_of))
        self.model.meaning.settle(self.meanings[self.known], targets[self.known], self.weights[self.known])


def fit(
    space: Space, classifier: Classifier, nouns: Nouns, hierarchy: Hierarchy, recipe: Recipe
) -> tuple[PhotoUniCL, list[float]]:
    """The trained network and its losses. Classes that ``classifier`` does not have leave no trace in it."""
    trainer = Trainer(Labels(space, classifier, nouns, hierarchy, recipe), recipe)
    losses = trainer.run()
    return trainer.model.eval(), losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", type=Path, required=True, help="what models.unicl.lite2.collect wrote")
    parser.add_argument("--repository", type=Path, required=True, help="where efficientnet-lite2 and minilm-l6 are")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    nouns, recipe = Nouns.read(), Recipe(seed=options.seed)
    classifier = read_classifier(options.repository, "efficientnet-lite2", "minilm-l6", silent)
    model, losses = fit(Space.read(options.space), classifier, nouns, Hierarchy(nouns), recipe)
    pack(model, options.out)
    lines = [{"recipe": asdict(recipe)}, *({"step": step, "loss": round(loss, 4)} for step, loss in enumerate(losses))]
    options.out.with_suffix(".jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
