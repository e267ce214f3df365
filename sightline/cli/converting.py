"""``sightline models convert``: a downloaded checkpoint of a publication becomes models that are served."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightline.cli import cards, running
from sightline.cli.output import DataDirOption, JsonOption, print_json, progress_bars, settings_with, table

if TYPE_CHECKING:
    from models.export.accuracy import Labelled
    from services.settings import Settings


class Precision(StrEnum):
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"
    int8 = "int8"


def convert(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A published checkpoint; all are listed when absent.")
    ] = None,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Its file; where to download it is told when absent.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Names of all classes of a 22K head, one a line; else it is cut to ImageNet-1K.")
    ] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="What to serve it in; the fastest that it bears here when absent.")
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(help="Folder with a folder of pictures for each label: accuracy, exact and as served, goes on "
                     "the card.", exists=True, file_okay=False),
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option("--with", metavar="FILE", help="A further file that the model is made of, such as RegionCLIP's "
                     "proposals; once for each.", exists=True, dir_okay=False),
    ] = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Make models of a published UniCL, K-LITE, FocalNet, RegionCLIP or GLIP; a running server serves them.

    A file is read without running code of its own, and taken only when every weight fits.
    """
    from models.catalog.releases import release, releases
    from models.convert import convert as convert_file

    if name is None or file is None:
        chosen = {name: release(name)} if name else releases()
        if json:
            print_json([{"name": key, "title": entry.title, "get": entry.remedy} for key, entry in chosen.items()])
        else:
            table(("name", "title", "where to get it"), [(k, e.title, e.remedy) for k, e in chosen.items()])
        return
    settings = settings_with(data_dir=data_dir)
    root = settings.models_dir
    labelled = None if pictures is None else read_labelled(pictures, settings)
    with progress_bars(silent=json) as bar:
        made = convert_file(
            name,
            file,
            root,
            bar(name),
            labels,
            None if precision is None else precision.value,
            labelled,
            beside or (),
        )
    for card in made:
        running.came(settings, card.name)
    if json:
        print_json([cards.summary(card, root) for card in made])
        return
    for card in made:
        cards.tell(card, root)


def read_labelled(folder: Path, settings: Settings) -> Labelled:
    """The pictures below ``folder``, whose own folders are their labels; each is decoded when it is needed.

    Raises ``typer.BadParameter`` when there are none.
    """
    from models.export.accuracy import Labelled
    from services.errors import Problem
    from services.media.image import read_picture
    from services.media.intake import Limits
    from services.media.preprocess import Preprocessor
    from services.media.suffixes import IMAGE_SUFFIXES

    files = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in IMAGE_SUFFIXES)
    labels = sorted({path.parent.name for path in files})
    if not files:
        raise typer.BadParameter(f"{folder} holds no folders with pictures in them", param_hint="--pictures")
    limits = Limits.of(settings)

    def tensors(spec: Any) -> Iterator[Any]:
        prepare = Preprocessor(spec)
        for path in files:
            try:
                yield prepare.batch([read_picture(path.read_bytes(), limits)])[0]
            except Problem as problem:
                problem.detail = f"{path}: {problem.detail}"
                raise

    return Labelled(folder.name, tuple(labels), tuple(labels.index(path.parent.name) for path in files), tensors)
