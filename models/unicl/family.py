"""UniCL's row of :mod:`models.families`, with the two models of this line that were trained here."""

from __future__ import annotations

from models.family import Builder, Converter, Family
from models.parity import Config, FixtureKind
from models.text.fixtures import check_clip_tokenizer
from models.unicl.cards import tower_names
from models.unicl.checkpoint import published_as
from models.unicl.convert import convert
from models.unicl.fixtures import check_loss, check_manifest, check_network, check_resnet
from models.unicl.lite2 import export as lite2
from models.unicl.lite2 import regions
from models.unicl.pocket import export as pocket


def _is_loss(config: Config) -> bool:
    cases = config.get("cases")
    return isinstance(cases, list) and bool(cases) and "expanded_labels" in cases[0]


FAMILY = Family(
    builders={
        "unicl-pocket": Builder(pocket.build_pair),
        "unicl-pocket-image": Builder(pocket.build_image),
        "unicl-pocket-text": Builder(pocket.build_text),
        "unicl-lite2": Builder(lite2.build_pair),
        "unicl-lite2-regions": Builder(regions.build_regions),
        "photo-detect": Builder(lite2.build_pair),
        "unicl-lite2-image": Builder(lite2.build_image),
        "unicl-lite2-text": Builder(lite2.build_text),
    },
    converter=Converter(convert, published_as, tower_names),
    fixtures=(
        FixtureKind("unicl", lambda config: "IMAGE_ENCODER" in config.get("MODEL", {}), check_network),
        FixtureKind("unicl-loss", _is_loss, check_loss),
        FixtureKind("clip-tokenizer", lambda config: "bpe_sha256" in config, check_clip_tokenizer),
        FixtureKind("resnet", lambda config: "resnet" in config, check_resnet),
        FixtureKind(
            "unicl-manifest",
            lambda config: "keys" in config and "IMAGE_ENCODER" in config.get("hyperparameters", {}),
            check_manifest,
        ),
    ),
)
