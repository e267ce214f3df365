"""``python -m models.unicl.report FIXTURES --write docs/models/unicl.md``: the tables of that page, from real runs."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch

from models.backbones.flops import Size, measure
from models.backbones.focalnet import FocalNet
from models.catalog.releases import releases
from models.focalnet import variants as focalnet
from models.focalnet.family import FAMILY as FOCALNET
from models.parity import check_fixture
from models.text.clip_transformer import ClipTextTransformer
from models.unicl import variants as unicl
from models.unicl.family import FAMILY
from models.unicl.network import build_image_tower

LARGE_SIZE = {"large": 384, "xlarge": 384}
"""FocalNets that were trained on larger pictures than 224."""


def parity_table(fixtures: Iterable[Path]) -> Iterator[str]:
    """One row a fixture: the tensor that comes closest to its tolerance."""
    yield from _head("fixture", "tensors", "closest to its tolerance", "largest error", "atol", "verdict")
    for path in fixtures:
        report = check_fixture(path, (*FAMILY.fixtures, *FOCALNET.fixtures))
        worst = max(report.comparisons, key=lambda c: c.error / c.atol if c.atol else c.error)
        verdict = "ok" if report.ok else "**FAILED**"
        count = len(report.comparisons)
        yield f"| {path.stem} | {count} | {worst.name} | {worst.error:.1e} | {worst.atol:.0e} | {verdict} |"


def size_table() -> Iterator[str]:
    """One row a published network: parameters, and multiply-accumulates of one picture (or one text)."""
    yield from _head("network", "input", "parameters (M)", "multiply-accumulates (G)")
    for name, config in focalnet.VARIANTS.items():
        side = LARGE_SIZE.get(name.split("_")[1], 224)
        yield _row(name, f"{side} px", measure(partial(FocalNet, config), (1, 3, side, side)))
    for name, model in unicl.VARIANTS.items():
        size = measure(partial(build_image_tower, model.image), (1, 3, 224, 224), method="pooled")
        yield _row(f"{name}, image tower", "224 px", size)
    text = partial(ClipTextTransformer, unicl.VARIANTS["unicl_swin_tiny"].text)
    for length in (77, 16):
        yield _row("UniCL text tower", f"{length} tokens", measure(text, (1, length), torch.int64))


def _row(name: str, about: str, size: Size) -> str:
    return f"| {name} | {about} | {size.parameters / 1e6:.2f} | {size.macs / 1e9:.2f} |"


def release_table() -> Iterator[str]:
    """One row a published checkpoint: what it scored and where it is."""
    yield from _head("name", "trained on", "published figures", "first address that answers")
    for name, entry in releases().items():
        if entry.family not in ("unicl", "focalnet"):
            continue  # other lines have pages of their own
        figures = ", ".join(f"{100 * figure.value:.1f} ({figure.dataset}, {figure.metric})" for figure in entry.figures)
        live = next((copy.address for copy in entry.copies if copy.status == "live"), "")
        unchecked = next((copy.address for copy in entry.copies if copy.status == "unchecked"), "")
        where = live or (f"{unchecked} (unchecked)" if unchecked else "none: the published address is dead")
        yield f"| {name} | {entry.trained_on} | {figures or 'none'} | {where} |"


def _head(*columns: str) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"


def replaced(page: str, name: str, table: Iterable[str]) -> str:
    """``page`` with the table between the marks of ``name`` exchanged; raises ``ValueError`` without such marks."""
    start, end = f"<!-- table: {name} -->", f"<!-- end: {name} -->"
    if start not in page or end not in page:
        raise ValueError(f"the page has no marks {start} and {end}")
    before, _, rest = page.partition(start)
    _, _, after = rest.partition(end)
    return f"{before}{start}\n" + "\n".join(table) + f"\n{end}{after}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the three tables, or write them into a page."""
    parser = argparse.ArgumentParser(prog="python -m models.unicl.report", description=__doc__)
    parser.add_argument("fixtures", nargs="+", type=Path)
    parser.add_argument("--write", type=Path, help="page whose tables are exchanged")
    options = parser.parse_args(arguments)
    tables = {"parity": parity_table(options.fixtures), "sizes": size_table(), "releases": release_table()}
    page = options.write.read_text("utf-8") if options.write else ""
    for name, table in tables.items():
        if options.write:
            page = replaced(page, name, table)
        else:
            print("\n".join(table), end="\n\n")

    if options.write:
        options.write.write_text(page, "utf-8")


if __name__ == "__main__":
    main()
