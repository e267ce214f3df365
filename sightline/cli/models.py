"""``sightline models``: what is in the catalog, what is installed, and getting it there."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sightline.cli import cards, converting, fixtures, listing, running, sampling
from sightline.cli.output import (
    DataDirOption,
    JsonOption,
    console,
    print_json,
    progress_bars,
    settings_with,
    table,
)

app = typer.Typer(help="List, pull, convert, import, inspect, verify and remove models.", no_args_is_help=True)


class OutputKind(StrEnum):
    logits = "logits"
    softmax = "softmax"
    sigmoid = "sigmoid"


class ImportTask(StrEnum):
    classify = "classify"
    detect = "detect"
    embed_image = "embed-image"
    tensor = "tensor"


NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A model's name.", show_default=False)]


@app.command("list")
def list_models(
    available: Annotated[
        bool, typer.Option("--available", help="Everything that can be pulled, published checkpoints too.")
    ] = False,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Every model of the catalog, and every one that is installed."""
    if available:
        listing.show_available(json=json)
    else:
        listing.show_models(settings_with(data_dir=data_dir).models_dir, json=json)


@app.command()
def pull(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME...]", help="Models or published checkpoints; the default models when absent."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every model of the catalog; published checkpoints by name only.")
    ] = False,
    file: Annotated[
        Path | None, typer.Option(help="The file of the one published checkpoint that is pulled, where you have it.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Build again what is there already.")] = False,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Fetch models and make them ready to serve. What is there and undamaged is left alone.

    A server that runs on this data directory serves them at once.
    """
    from models.catalog.catalog import Catalog
    from models.pull import makes
    from models.pull import pull as pull_model

    settings = settings_with(data_dir=data_dir)
    catalog = Catalog.read()
    wanted = list(catalog.entries) if every else names or list(catalog.defaults)
    for name in wanted:
        catalog.find(name)  # a misspelt name is told before the first download
    if file is not None and len(wanted) != 1:
        raise typer.BadParameter("one file is of one checkpoint: name it", param_hint="--file")
    pulled = []
    with progress_bars(silent=json) as bar:
        for name in wanted:
            before = {one: running.stamp(settings.models_dir, one) for one in makes(name, catalog)}
            card = pull_model(
                name, settings.models_dir, settings.cache_dir, bar(name), catalog=catalog, force=force, file=file
            )
            pulled.append(card)
            moved = [one for one, was in before.items() if was != running.stamp(settings.models_dir, one)]
            # A pipeline keeps the parts that it was opened with until it is loaded again itself.
            for one in dict.fromkeys((*moved, name) if moved else ()):
                follow = running.came if before[one] is None else running.changed
                follow(settings, one)
    if json:
        print_json([cards.summary(card, settings.models_dir) for card in pulled])
        return
    for card in pulled:
        cards.tell(card, settings.models_dir)


app.command("convert")(converting.convert)


@app.command("import")
def import_model(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="An ONNX file, or a model folder in Triton's layout.", exists=True)
    ],
    name: Annotated[str, typer.Option(help="What requests will call it.")],
    task: Annotated[ImportTask, typer.Option(help="What it does; tensor is reachable under /v2 only.")],
    labels: Annotated[
        Path | None, typer.Option(help="Text file with one label a line, for a classifier or detector.", exists=True)
    ] = None,
    preprocess: Annotated[
        str | None,
        typer.Option(
            help="imagenet-N, clip-N, half-N, unit-N or whole-N; for detectors yolo-N, yolox-N, detr-N or unit-WxH; "
            "N is the side in pixels, as in clip-224."
        ),
    ] = None,
    output: Annotated[str | None, typer.Option(help="The output that counts, when there are several.")] = None,
    output_kind: Annotated[
        OutputKind | None, typer.Option(help="What a classifier's output holds, where the file does not tell.")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(help="How a detector's outputs are read, where they leave a doubt: yolov8, ssd, detr ..."),
    ] = None,
    sample: Annotated[
        Path | None,
        typer.Option(
            help="A picture for a detector: its boxes are drawn into NAME-sample.jpg, to look at.", exists=True
        ),
    ] = None,
    title: Annotated[str, typer.Option(help="For the card.")] = "",
    licence: Annotated[str, typer.Option(help="SPDX identifier, for the card.")] = "LicenseRef-not-stated",
    size: Annotated[
        list[str] | None, typer.Option(help="AXIS=N: a size to try a free axis of the graph with; repeat for several.")
    ] = None,
    max_batch_size: Annotated[int, typer.Option(help="Rows that may run together.", min=1, max=4096)] = 16,
    max_gib: Annotated[float, typer.Option(help="GiB that the file and its external data may have.", min=0.001)] = 4,
    trial_seconds: Annotated[float, typer.Option(help="How long the trial run may take.", min=1)] = 120,
    trial_memory: Annotated[
        float | None,
        typer.Option(help="GiB that the trial run may use; 8 and four times the file when absent.", min=0.25),
    ] = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Bring your own ONNX model: it is checked, run once, and served from then on, by a running server at once."""
    from models.intake.importing import About, import_onnx

    if sample is not None and task is not ImportTask.detect:
        raise typer.BadParameter("a sample is a picture for a detector: --task detect", param_hint="--sample")
    settings = settings_with(data_dir=data_dir)
    root = settings.models_dir
    about = About(
        title=title,
        licence=licence,
        output=output,
        kind=output_kind.value if output_kind else None,
        form=form,
        max_batch_size=max_batch_size,
        sizes=_axis_sizes(size or []),
        trial_seconds=trial_seconds,
        trial_gib=trial_memory,
    )
    with progress_bars(silent=json) as bar:
        card = import_onnx(
            file,
            name,
            task.value,
            root,
            labels=labels,
            preprocess=preprocess,
            about=about,
            max_bytes=int(max_gib * 2**30),
            progress=bar(name),
        )
    drawn = None if sample is None else sampling.draw(settings, card, sample, Path(f"{name}-sample.jpg"))
    running.came(settings, name)
    if json:
        print_json(cards.summary(card, root) | ({} if drawn is None else {"sample": drawn}))
        return
    cards.tell(card, root)
    if drawn is not None:
        console().print(f"       {drawn['boxes']} boxes on {sample}, the best {drawn['best']}: see {drawn['file']}")
    if task is ImportTask.classify:
        note = f" ({card.provenance[0].note})" if card.provenance[0].note else ""
        console().print(f"       its output holds {card.output_kind}{note}")


@app.command()
def info(name: NameArgument, data_dir: DataDirOption = None, json: JsonOption = False) -> None:
    """A model's card: what it is, where it comes from, what it scores, what it is not for."""
    from models.catalog.catalog import Catalog
    from models.catalog.document import document
    from models.repository.reading import latest, read_card

    folder = latest(settings_with(data_dir=data_dir).models_dir, name)
    card = read_card(folder) if folder is not None else Catalog.read().entry(name).card
    if json:
        print_json(document(card) | {"folder": str(folder) if folder else None})
        return
    cards.show(card, folder)


@app.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="Models; all installed ones when absent.")
    ] = None,
    fixture: Annotated[
        list[Path] | None,
        typer.Option(help="A parity fixture (folder or JSON file) instead: rebuild its network, compare every tensor."),
    ] = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Hash every file of installed models against its card; exit code 1 when something is wrong."""
    if fixture:
        fixtures.verify(fixture, json=json)
        return
    from models.errors import ModelError
    from models.pull import not_installed
    from models.pull import verify as verify_model
    from models.repository.reading import installed, latest

    root = settings_with(data_dir=data_dir).models_dir
    for name in names or []:
        if latest(root, name) is None:
            raise not_installed(name, root)
    checked = []
    for name in names or sorted({version.name for version in installed(root)}):
        try:
            card = verify_model(root, name)
            checked.append({"name": name, "ok": True, "version": card.version, "files": len(card.files)})
        except ModelError as error:
            checked.append({"name": name, "ok": False, "problem": str(error), "remedy": error.remedy})
    if json:
        print_json(checked)
    else:
        from rich.text import Text

        table(
            ("name", "verdict", "details"),
            [
                (str(line["name"]), Text("ok", "green"), f"version {line['version']}, {line['files']} files")
                if line["ok"]
                else (str(line["name"]), Text("damaged", "red"), f"{line['problem']}\n{line['remedy']}")
                for line in checked
            ],
        )
    if not all(line["ok"] for line in checked):
        raise typer.Exit(1)


@app.command()
def remove(
    name: NameArgument,
    version: Annotated[str | None, typer.Option(help="Only this version.", show_default=False)] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also what an installed pipeline is made of.")] = False,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Remove a model from this machine. A running server stops to serve it.

    What an installed pipeline is made of stays, since the pipeline could answer no more.
    """
    from models.repository.reading import latest
    from models.repository.writer import removing

    settings = settings_with(data_dir=data_dir)
    root = settings.models_dir
    what = name if version is None else f"version {version} of {name}"
    if not (yes or json) and latest(root, name) is not None:
        typer.confirm(f"Remove {what} from {root}?", abort=True)

    with removing(root, name, version, force=force) as held:
        for one in sorted(held.names) if version is None else ():
            running.goes(settings, one)
        held.remove(name, version)

    running.gone(settings)
    if version is not None:
        follow = running.goes if latest(root, name) is None else running.changed
        follow(settings, name)
    if json:
        print_json({"removed": name, "version": version})
        return
    console().print(f"Removed {what}.")


@app.command()
def share(name: NameArgument, data_dir: DataDirOption = None, json: JsonOption = False) -> None:
    """Let every key list and use a model that a job of one key has made. A running server follows at once."""
    _share(name, data_dir, json, shared=True)


@app.command()
def unshare(name: NameArgument, data_dir: DataDirOption = None, json: JsonOption = False) -> None:
    """Keep a model to the key whose job has made it, and to administrators."""
    _share(name, data_dir, json, shared=False)


def _share(name: str, data_dir: Path | None, json: bool, *, shared: bool) -> None:
    from models.repository.writer import writing
    from services.runtime import announce

    settings = settings_with(data_dir=data_dir)
    with writing(settings.models_dir, name) as held:
        held.share(name, shared)
    announce.touch(settings)
    if json:
        print_json({"name": name, "shared": shared})
        return
    console().print(f"{name} is for every key." if shared else f"{name} is for its owner and administrators.")


def _axis_sizes(given: list[str]) -> dict[str, int]:
    sizes = {}
    for text in given:
        axis, _, count = text.partition("=")
        if not axis or not count.isascii() or not count.isdigit() or int(count) < 1:
            raise typer.BadParameter(f"{text!r} is not AXIS=N, such as height=224", param_hint="--size")
        sizes[axis] = int(count)
    return sizes
