"""``sightline embed``: texts or images as vectors, from a running platform."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.input_images import batches
from sightline.cli.options import KeyOption, ModelOption, TruncateOption, UrlOption, connect
from sightline.cli.output import JsonOption, console, print_json, table
from sightline.cli.reading import Reading
from sightline.cli.skipped import Skipped


def embed(
    texts: Annotated[list[str] | None, typer.Argument(metavar="[TEXT...]", help="Texts.")] = None,
    image: Annotated[list[str] | None, typer.Option(help="Files, folders or - for standard input, instead.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the (N, D) float32 array to this .npy file.")
    ] = None,
    dimensions: Annotated[int | None, typer.Option(help="Cut vectors to this length.", min=1)] = None,
    truncate: TruncateOption = True,
    model: ModelOption = None,
    url: UrlOption = None,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Turn texts or pictures into vectors."""
    if bool(texts) == bool(image):
        raise typer.BadParameter("give texts, or --image, and not both")
    import numpy as np

    named: list[str] = list(texts or [])
    skipped = Skipped()
    with connect(url, key) as client:
        if texts:
            answers = [client.embed(texts, dimensions=dimensions, model=model, truncate=None if truncate else False)]
        else:
            answers = []
            for batch in batches(image or [], skipped):
                named += [source.name for source in batch]
                answers.append(
                    client.embed(images=[source.value for source in batch], dimensions=dimensions, model=model)
                )

    vectors = np.concatenate([answer.vectors for answer in answers])
    if output is not None:
        with output.open("wb") as out:
            np.save(out, vectors)

    skipped.tell()
    reading = Reading("text", named)
    reading.tell(answers[0])
    if json:
        document = {"model": answers[0].model, "inputs": named, "embeddings": vectors.tolist()}
        print_json({**document, **reading.document()})
    elif output is not None:
        console().print(f"{vectors.shape[0]} vectors of {vectors.shape[1]} in {output}")
    else:
        rows = []
        for name, vector in zip(named, vectors, strict=True):
            begin = " ".join(f"{value:+.3f}" for value in vector[:6])
            rows.append((name, str(len(vector)), f"{float(np.linalg.norm(vector)):.3f}", f"{begin} …"))
        table(("input", "length", "norm", "vector"), rows, right=("length", "norm"))
