"""``sightline classify``: ask a running platform what is on images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.text_files import text_lines
from sightline.cli.heat_maps import HeatMaps
from sightline.cli.input_images import batches
from sightline.cli.options import KeyOption, ModelOption, TruncateOption, UrlOption, connect
from sightline.cli.outcomes import Outcome, ask_each, error_text, heading, print_error_line
from sightline.cli.output import JsonOption, console
from sightline.cli.reading import Reading
from sightline.cli.skipped import Skipped
from sightline.cli.text_files import read_text_file

if TYPE_CHECKING:
    from sightline.client import Classification, ClassifiedImage


def classify(
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE...", help="Files, folders, https addresses, or - for standard input."),
    ],
    labels: Annotated[
        list[str] | None,
        typer.Option(help="What it may be: 'a cat,a dog', or the option repeated, or @FILE with one label a line."),
    ] = None,
    label_set: Annotated[str | None, typer.Option(help="A named label set instead, such as imagenet-1k.")] = None,
    template: Annotated[
        list[str] | None, typer.Option(help="Sentence around a label: 'a photo of {}.'; repeat for several.")
    ] = None,
    template_set: Annotated[str | None, typer.Option(help="Named sentences instead, such as imagenet-81.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Labels to show.", min=1)] = None,
    multi_label: Annotated[bool, typer.Option("--multi-label", help="Several labels may be right at once.")] = False,
    threshold: Annotated[float | None, typer.Option(help="Leave out labels that score less.", min=0, max=1)] = None,
    explain: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Write where the model looked, over the picture; a folder for several."),
    ] = None,
    truncate: TruncateOption = True,
    model: ModelOption = None,
    url: UrlOption = None,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Say what is on pictures. With --json, one object a line for each picture.

    The exit code is 1 when a picture could not be classified; the others are all the same.
    """
    failed, maps, skipped = False, HeatMaps.into(explain, images), Skipped()
    chosen = None if labels is None else split_labels(labels)
    reading = Reading("label", chosen or ())
    with connect(url, key) as client:

        def ask(batch: list[str | bytes]) -> Classification:
            answer = client.classify(
                batch,
                chosen,
                label_set=label_set,
                templates=template,
                template_set=template_set,
                top_k=top_k,
                multi_label=multi_label or None,
                threshold=threshold,
                explain=maps.wanted,
                model=model,
                truncate=None if truncate else False,
            )
            reading.tell(answer)
            return answer

        for batch in batches(images, skipped):
            for outcome in ask_each(ask, batch):
                if outcome.result is None:
                    failed = True
                else:
                    maps.keep(outcome.source.name, outcome.result)
                if json:
                    _print_line(outcome, reading)
                else:
                    _print_picture(outcome)
    skipped.tell()
    if failed:
        raise typer.Exit(1)


def split_labels(given: Sequence[str]) -> list[str]:
    """Labels from the command line: commas separate when the option stands once, as in a query of the API."""
    if len(given) == 1 and given[0].startswith("@"):
        lines = text_lines(read_text_file(Path(given[0][1:])))
        return [line.strip() for line in lines if line.strip()]
    if len(given) == 1:
        return [label.strip() for label in given[0].split(",") if label.strip()]
    return list(given)


def _print_line(outcome: Outcome[ClassifiedImage], reading: Reading) -> None:
    import json

    name, picture = outcome.source.name, outcome.result
    if outcome.error is not None or picture is None:
        assert outcome.error is not None
        print_error_line(name, outcome.error)
        return
    line = {
        "image": name,
        "model": outcome.model,
        "version": outcome.version,
        "width": picture.width,
        "height": picture.height,
        "predictions": [{"label": guess.label, "score": guess.score} for guess in picture.predictions],
        "none_of_these": picture.none_of_these,
        **reading.document(),
    }
    print(json.dumps(line, ensure_ascii=False), flush=True)


def _print_picture(outcome: Outcome[ClassifiedImage]) -> None:
    """A heading and a bar a label."""
    from rich.text import Text

    out, picture = console(), outcome.result
    if outcome.error is not None or picture is None:
        assert outcome.error is not None
        out.print(error_text(outcome.source.name, outcome.error))
        return
    out.print(heading(outcome, picture.width, picture.height))
    rows = [(guess.label, guess.score) for guess in picture.predictions]
    width = max((len(label) for label, _ in rows), default=0)
    for rank, (label, score) in enumerate(rows):
        out.print(Text.assemble(f"  {label:<{width}}  ", (f"{score:6.1%} ", "bold" if rank == 0 else ""), _bar(score)))
    if not rows:
        out.print(Text("  no label reaches the threshold", "yellow"))
    if picture.none_of_these is not None:
        note = f"  {'none of these':<{width}}  {picture.none_of_these:6.1%} "
        out.print(Text.assemble((note, "dim"), _bar(picture.none_of_these, "dim")))


def _bar(score: float, style: str = "green") -> tuple[str, str]:
    return "█" * round(score * 24), style
