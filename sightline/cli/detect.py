"""``sightline detect`` and ``sightline ground``: ask a running platform where things are on images."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightline.cli.classify import split_labels
from sightline.cli.drawn_images import DrawnImages
from sightline.cli.input_images import batches
from sightline.cli.options import KeyOption, ModelOption, UrlOption, connect
from sightline.cli.outcomes import Outcome, ask_each, error_text, heading, print_error_line
from sightline.cli.output import JsonOption, console, table
from sightline.cli.skipped import Skipped

if TYPE_CHECKING:
    from sightline.client import DetectedImage, Detections, Example, GroundedImage

ImagesArgument = Annotated[
    list[str], typer.Argument(metavar="IMAGE...", help="Files, folders, https addresses, or - for standard input.")
]
ThresholdOption = Annotated[float | None, typer.Option(help="Leave out boxes that score less.", min=0, max=1)]
MostOption = Annotated[int | None, typer.Option(help="Boxes of one image at most.", min=1)]
OverlapOption = Annotated[
    float | None, typer.Option(help="Overlap from which two boxes of a label show the same; 1 keeps all.", max=1)
]
OutputOption = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="FILE", help="Write a copy with the boxes drawn in; a folder for several."),
]

_SHOWN = 12
"""Labels whose presence is shown without a box."""


def detect(
    images: ImagesArgument,
    labels: Annotated[
        list[str] | None,
        typer.Option(help="What to find: 'person,red car', or the option repeated, or @FILE with one label a line."),
    ] = None,
    label_set: Annotated[str | None, typer.Option(help="A named label set instead, such as coco-80.")] = None,
    negative: Annotated[
        list[str] | None, typer.Option(help="What must not be taken for one of the labels; repeat for several.")
    ] = None,
    example: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL=BOX[@FILE]", help="Find more of what a box shows: 'part=10,20,60,80@photo.jpg'."),
    ] = None,
    threshold: ThresholdOption = None,
    max_detections: MostOption = None,
    nms_iou: OverlapOption = None,
    output: OutputOption = None,
    model: ModelOption = None,
    url: UrlOption = None,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Find things on pictures. With --json, one object a line for each picture.

    The exit code is 1 when a picture could not be looked at; the others are all the same.
    """
    failed, drawn, skipped = False, DrawnImages.into(output, images), Skipped()
    chosen = None if labels is None else split_labels(labels)
    examples = None if example is None else [_example(text) for text in example]
    with connect(url, key) as client:

        def ask(batch: list[str | bytes]) -> Detections[DetectedImage]:
            return client.detect(
                batch,
                chosen,
                label_set=label_set,
                negative_labels=negative,
                examples=examples,
                threshold=threshold,
                max_detections=max_detections,
                nms_iou=nms_iou,
                render=drawn.wanted,
                model=model,
            )

        for batch in batches(images, skipped):
            for outcome in ask_each(ask, batch):
                failed = failed or outcome.result is None
                file = None if outcome.result is None else drawn.keep(outcome.source.name, outcome.result.rendered)
                if json:
                    _print_line(outcome, file)
                else:
                    _print_detections(outcome, file)
    skipped.tell()
    if failed:
        raise typer.Exit(1)


def ground(
    images: ImagesArgument,
    caption: Annotated[str, typer.Option(help="A sentence about the pictures.")],
    phrase: Annotated[
        list[str] | None,
        typer.Option(help="What to find of it, as it stands there; its noun phrases when absent. Repeat for several."),
    ] = None,
    threshold: ThresholdOption = None,
    max_detections: MostOption = None,
    nms_iou: OverlapOption = None,
    output: OutputOption = None,
    model: ModelOption = None,
    url: UrlOption = None,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Find on pictures what a caption names. With --json, one object a line for each picture.

    The exit code is 1 when a picture could not be looked at; the others are all the same.
    """
    failed, drawn, skipped = False, DrawnImages.into(output, images), Skipped()
    with connect(url, key) as client:

        def ask(batch: list[str | bytes]) -> Detections[GroundedImage]:
            return client.ground(
                batch,
                caption,
                phrases=phrase,
                threshold=threshold,
                max_detections=max_detections,
                nms_iou=nms_iou,
                render=drawn.wanted,
                model=model,
            )

        for batch in batches(images, skipped):
            for outcome in ask_each(ask, batch):
                failed = failed or outcome.result is None
                file = None if outcome.result is None else drawn.keep(outcome.source.name, outcome.result.rendered)
                if json:
                    _print_line(outcome, file)
                else:
                    _print_phrases(outcome, file)
    skipped.tell()
    if failed:
        raise typer.Exit(1)


def _example(text: str) -> Example:
    """``part=10,20,60,80@photo.jpg``: a label, a box, and the image it is of where that is another."""
    from sightline.client import Example

    label, _, place = text.partition("=")
    numbers, _, file = place.partition("@")
    try:
        left, top, right, bottom = (float(number) for number in numbers.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not LABEL=X0,Y0,X1,Y1 or LABEL=X0,Y0,X1,Y1@FILE", param_hint="--example"
        ) from None
    return Example(label, (left, top, right, bottom), Path(file) if file else None)


def _print_line(outcome: Outcome[DetectedImage] | Outcome[GroundedImage], file: Path | None) -> None:
    if outcome.result is None:
        assert outcome.error is not None
        print_error_line(outcome.source.name, outcome.error)
        return
    told: dict[str, Any] = asdict(outcome.result)
    del told["index"], told["rendered"]
    line = {"image": outcome.source.name, "model": outcome.model, "version": outcome.version, **told}
    if file is not None:
        line["drawn"] = str(file)
    print(json_format.dumps(line, ensure_ascii=False), flush=True)


def _print_detections(outcome: Outcome[DetectedImage], file: Path | None) -> None:
    """A heading, a table of boxes, and which labels have none."""
    found = outcome.result
    if found is None:
        assert outcome.error is not None
        console().print(error_text(outcome.source.name, outcome.error))
        return
    console().print(heading(outcome, found.width, found.height))
    rows = [(one.label, f"{one.score:.2f}", _place(one.box)) for one in found.detections]
    if rows:
        table(("label", "score", "box"), rows, right=("score",))
    else:
        console().print("  nothing reaches the threshold", style="yellow")
    with_box = {one.label for one in found.detections}
    absent = sorted(((share, label) for label, share in found.presence.items() if label not in with_box), reverse=True)
    if absent:
        told = ", ".join(f"{label} {share:.0%}" for share, label in absent[:_SHOWN])
        more = f" and {len(absent) - _SHOWN:,} more" if len(absent) > _SHOWN else ""
        console().print(f"  without a box, how likely they are there: {told}{more}", style="dim")
    _print_file(file)


def _print_phrases(outcome: Outcome[GroundedImage], file: Path | None) -> None:
    """A heading, and a table with each phrase, how likely it is there, and its boxes."""
    found = outcome.result
    if found is None:
        assert outcome.error is not None
        console().print(error_text(outcome.source.name, outcome.error))
        return
    console().print(heading(outcome, found.width, found.height))
    rows = []
    for phrase in found.phrases:
        span = f"{phrase.span[0]}-{phrase.span[1]}"
        places = [(f"{one.score:.2f}", _place(one.box)) for one in phrase.boxes] or [("", "not found")]
        for index, (score, place) in enumerate(places):
            first = (phrase.text, span, f"{phrase.presence:.0%}") if index == 0 else ("", "", "")
            rows.append((*first, score, place))
    table(("phrase", "characters", "there", "score", "box"), rows, right=("there", "score"))
    _print_file(file)


def _place(box: tuple[float, float, float, float]) -> str:
    return " ".join(f"{edge:.0f}" for edge in box)


def _print_file(file: Path | None) -> None:
    if file is not None:
        console().print(f"  drawn into {file}", style="dim")
