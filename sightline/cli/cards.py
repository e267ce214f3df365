"""How models are shown: one line, or the whole card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sightline.cli.output import console, size, table

if TYPE_CHECKING:
    from models.catalog.card import Card


def size_of(folder: Path) -> int:
    """Bytes of everything in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def summary(card: Card, root: Path) -> dict[str, object]:
    """The same for programs."""
    folder = root / card.name / card.version
    facts = {"name": card.name, "version": card.version, "task": card.task}
    return facts | {"folder": str(folder), "bytes": size_of(folder)}


def tell(card: Card, root: Path) -> None:
    """One line: the model is in the repository ``root``."""
    from rich.text import Text

    folder = root / card.name / card.version
    rest = f" v{card.version}, {size(size_of(folder))}: {card.title}"
    console().print(Text.assemble(("ready  ", "green"), (card.name, "bold"), rest))


def show(card: Card, folder: Path | None) -> None:
    """The whole card; ``folder`` is where the model is installed."""
    from rich.padding import Padding
    from rich.text import Text

    out = console()
    out.print(Text.assemble((card.title, "bold"), (f"\n{card.name} v{card.version}, {card.task}", "dim")))
    out.print(Padding(Text(card.description), (1, 0)))
    facts = [
        ("licence", " ".join(part for part in (card.licence.spdx, card.licence.attribution) if part)),
        ("inputs", ", ".join(f"{t.name} {t.datatype}{list(t.shape)}" for t in card.inputs)),
        ("outputs", ", ".join(f"{t.name} {t.datatype}{list(t.shape)}" for t in card.outputs)),
        ("labels", card.label_set or ""),
        ("scores", "" if card.output_kind == "logits" else f"its own {card.output_kind}"),
        ("engine", f"{card.engine.name} {card.engine.precision}"),
        *(
            ("from", f"{origin.source} {origin.member or ''} sha256 {origin.sha256[:16]}…")
            for origin in card.provenance
        ),
        *(("limit", limit) for limit in card.limits),
        *(("not for", purpose) for purpose in card.not_for),
        ("folder", str(folder) if folder else f"not installed: sightline models pull {card.name}"),
    ]
    table(("", ""), [(Text(name, "dim"), value) for name, value in facts if value])
    if card.measured:
        table(
            ("measured on", "what", "value", "n", "by", "note"),
            [
                (
                    m.dataset,
                    m.metric,
                    f"{m.value:g}" + (f" ± {m.error:g}" if m.error else ""),
                    f"{m.n:,}" if m.n else "",
                    m.by,
                    m.note,
                )
                for m in card.measured
            ],
            right=("value", "n"),
        )
