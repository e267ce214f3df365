"""Parity of what serving itself computes: pictures to tensors. The networks' own checks are in ``models.verify``."""

from __future__ import annotations

import torch

from models.catalog.geometry import ImagePreprocess
from models.parity import Comparison, Config, Fixture, FixtureKind, UnknownFixture
from services.media.image import read_picture
from services.media.intake import Limits
from services.media.preprocess import Preprocessor
from services.settings import Settings


def check_preprocess(fixture: Fixture) -> list[Comparison]:
    """Every picture of the fixture, decoded, resized, cropped and normalised as a card asks, against the reference."""
    config = fixture.config
    limits = Limits.of(Settings())
    outputs = {}
    for case in config["cases"]:
        if not case["center_crop"] or case["resize_shorter_side"] is None:
            spec = ImagePreprocess(size=case["img_size"], mode="squash", mean=config["mean"], std=config["std"])
        else:
            spec = ImagePreprocess(
                size=case["img_size"], resize=case["resize_shorter_side"], mean=config["mean"], std=config["std"]
            )
        # A file beside the config and nowhere else: a fixture may come from anybody.
        file = fixture.path / case["file"]
        if file.resolve().parent != fixture.path.resolve():
            raise UnknownFixture(f"{case['file']} is no file of {fixture.path}")
        outputs[case["name"]] = torch.from_numpy(Preprocessor(spec).batch([read_picture(file.read_bytes(), limits)])[0])

    return fixture.compare(outputs)


def _is_preprocess(config: Config) -> bool:
    cases = config.get("cases")
    return isinstance(cases, list) and bool(cases) and "center_crop" in cases[0]


KINDS = (FixtureKind("preprocess", _is_preprocess, check_preprocess),)
