"""``sightline classify``: ask a running platform what is on images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.text_files import text_lines
from sightline.cli.heat_maps import HeatMaps
from sightline.cli.input_images import InputImage, batches
from sightline.cli.options import KeyOption, ModelOption, TruncateOption, UrlOption, connect
from sightline.cli.output import JsonOption, console
from sightline.cli.reading import tell_reading
from sightline.cli.skipped import Skipped
from sightline.cli.text_files import read_text_file

if TYPE_CHECKING:
    from sightline.client import APIError, Classification, ClassifiedImage


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
    failed, maps = False, HeatMaps.into(explain, images)
    chosen = None if labels is None else split_labels(labels)
    skipped = Skipped()
    told: set[object] = set()
    with connect(url, key) as client:

        def ask(batch: list[str | bytes]) -> Classification:
            return client.classify(
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

        for batch in batches(images, skipped):
            for source, outcome in _classify_batch(ask, batch):
                if isinstance(outcome, tuple):
                    maps.keep(source.name, outcome[1])
                    answer = outcome[0]
                    if (said := (answer.truncated, answer.notes)) not in told:  # the same for every batch
                        told.add(said)
                        tell_reading("label", chosen or (), *said)
                else:
                    failed = True
                if json:
                    _print_line(source, outcome)
                else:
                    _print_picture(source, outcome)
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


def _classify_batch(
    ask: Callable[[list[str | bytes]], Classification], batch: list[InputImage]
) -> list[tuple[InputImage, tuple[Classification, ClassifiedImage] | APIError]]:
    """One outcome an image. A picture that the platform refuses does not take the others with it."""
    from sightline.client import APIError

    refused: dict[int, APIError] = {}
    while left := [index for index in range(len(batch)) if index not in refused]:
        try:
            answer = ask([batch[index].value for index in left])
        except APIError as error:
            parts = (error.pointer or "").split("/")
            place = int(parts[2]) if len(parts) > 2 and parts[1] == "images" and parts[2].isdigit() else -1
            if error.status >= 500 or not 0 <= place < len(left) or len(batch) == 1:
                raise
            refused[left[place]] = error
            continue
        found = dict(zip(left, answer.results, strict=True))
        return [
            (source, refused[index] if index in refused else (answer, found[index]))
            for index, source in enumerate(batch)
        ]
    return [(source, refused[index]) for index, source in enumerate(batch)]


def _print_line(source: InputImage, outcome: tuple[Classification, ClassifiedImage] | APIError) -> None:
    import json

    if not isinstance(outcome, tuple):
        error = {"code": outcome.code, "detail": outcome.detail, "remedy": outcome.remedy}
        print(json.dumps({"image": source.name, "error": error}, ensure_ascii=False), flush=True)
        return
    answer, picture = outcome
    line: dict[str, object] = {
        "image": source.name,
        "model": answer.model,
        "version": answer.version,
        "width": picture.width,
        "height": picture.height,
        "predictions": [{"label": guess.label, "score": guess.score} for guess in picture.predictions],
        "none_of_these": picture.none_of_these,
    }
    if answer.truncated:
        line["truncated"] = [asdict(one) for one in answer.truncated]
    if answer.notes:
        line["notes"] = [asdict(one) for one in answer.notes]
    print(json.dumps(line, ensure_ascii=False), flush=True)


def _print_picture(source: InputImage, outcome: tuple[Classification, ClassifiedImage] | APIError) -> None:
    """A heading and a bar a label."""
    from rich.text import Text

    out = console()
    if not isinstance(outcome, tuple):
        out.print(Text.assemble((source.name, "bold"), "  ", (outcome.detail, "red")))
        return
    answer, picture = outcome
    out.print(
        Text.assemble(
            (source.name, "bold"), (f"  {picture.width}×{picture.height}, {answer.model} v{answer.version}", "dim")
        )
    )
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
