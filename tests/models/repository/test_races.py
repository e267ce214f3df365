"""Two processes race for one name through every pair of ways in: no version is lost, no name has two owners."""

from __future__ import annotations

import itertools
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from models.catalog.card import Card, Licence, Provenance
from models.repository.hashing import verify_version
from models.repository.ownership import MadeBy, NameTaken, ownership_of
from models.repository.reading import RepositoryError, installed_versions, next_version
from models.repository.writer import writing
from services.errors import Problem
from services.ownership import check_names

WAYS = ("finetune", "pretrain", "promote", "pull", "convert", "import")
FAMILIES = {"finetune": "finetuned", "promote": "finetuned", "pretrain": "pretrained", "import": "imported"}
KEYS = ("finetune", "pretrain", "promote")


def write(root: Path, way: str, who: str, key: str) -> str:
    """What each way does at its end, as its own code does it: the version written, or why not."""
    family = FAMILIES.get(way, "published")
    made_by = MadeBy(key=key, job=f"job_{who}") if way in KEYS else None
    names = ("pets", "pets-image", "pets-text") if way in ("pretrain", "convert") else ("pets",)
    source = "import:mine.onnx" if way == "import" else f"https://example.org/{who}"
    try:
        with writing(root, *names) as held:
            if made_by is not None:
                check_names(root, made_by.key, names, family=family)
            version = "1" if way in ("pull", "convert") else next_version(root, "pets")
            for name in reversed(names):
                card = Card(
                    name=name, version=version, task="tensor", family=family, title=who, description="",
                    licence=Licence(spdx="MIT"), provenance=(Provenance(source=source, sha256="0"),),
                )  # fmt: skip
                part_of = None if name == "pets" or made_by is None else "pets"
                replace = way in ("pretrain", "pull", "convert")
                held.write(card, {"model.onnx": who.encode() * 50_000}, made_by=made_by, part_of=part_of,
                           replace=replace)  # fmt: skip
    except (NameTaken, RepositoryError, Problem) as refusal:
        return f"refused: {refusal}"
    return version


def race(root: Path, way: str, who: str, key: str, start: Any, told: Any) -> None:
    start.wait(30)
    told.put((who, write(root, way, who, key)))


PAIRS = [(*pair, False) for pair in itertools.combinations_with_replacement(WAYS, 2)]
PAIRS += [(*pair, True) for pair in itertools.combinations_with_replacement(KEYS, 2)]


@pytest.mark.parametrize(("left", "right", "same_key"), PAIRS)
def test_a_name_that_two_race_for_is_whole_and_has_one_owner(
    tmp_path: Path, left: str, right: str, same_key: bool
) -> None:
    context = multiprocessing.get_context("forkserver")  # this process has threads
    context.set_forkserver_preload([__name__])
    start, told = context.Barrier(2), context.Queue()
    keys = {"a": "key_a", "b": "key_a" if same_key else "key_b"}
    processes = [
        context.Process(target=race, args=(tmp_path, way, who, keys[who], start, told))
        for way, who in ((left, "a"), (right, "b"))
    ]
    for process in processes:
        process.start()
    outcomes = [told.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(30)
        assert process.exitcode == 0

    written = {(who, version) for who, version in outcomes if not version.startswith("refused")}
    assert written, outcomes
    found = installed_versions(tmp_path, "pets")
    cards = {(one.card.title, one.version) for one in found if one.card is not None and verify_version(one.folder)}
    platform = {"pull", "convert"}
    if {left, right} <= platform:  # the same catalog entry twice: the later build takes the place of the earlier
        assert len(found) == 1 and cards <= written
    else:
        assert cards == written, outcomes
    owner = ownership_of(tmp_path, "pets")
    makers = {who for who, _ in written if (left if who == "a" else right) in KEYS}
    assert (owner is None and not makers) or (owner is not None and {owner.key} == {keys[who] for who in makers})
    if owner is not None:
        assert owner.jobs == {version: f"job_{who}" for who, version in written}
    alike = FAMILIES.get(left, "published") == FAMILIES.get(right, "published")
    if {left, right} & set(KEYS):
        assert len(written) == (2 if same_key and alike else 1), outcomes
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".writing")]
