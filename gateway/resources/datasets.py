"""``/v1/datasets``: upload a labelled image set, look into it, remove it."""

from __future__ import annotations

import asyncio
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from gateway import openapi
from gateway.context import context_of
from gateway.middleware.keys import allow
from gateway.request.body import NoNul
from gateway.request.disconnect import while_connected
from gateway.resources.import_options import NAME, Options, no_name, with_fields
from gateway.resources.job_documents import list_document
from gateway.resources.receiving import received
from gateway.resources.schemas.datasets import Dataset, DatasetList, SampleList
from gateway.resources.schemas.jobs import Deleted
from services.datasets import store as stores
from services.datasets.archive import ArchiveLimits
from services.datasets.formats import LAYOUTS
from services.datasets.opening import dataset_store
from services.datasets.package import Stored
from services.datasets.samples import Box
from services.errors import Kind, Problem
from services.media.suffixes import MEDIA_TYPES

router = APIRouter(prefix="/v1/datasets", tags=["Data sets"])

_ONE = openapi.refusals(*openapi.ASKED, 404, 503)
_BINARY = {"schema": {"type": "string", "format": "binary"}}

Split = Literal["train", "val", "test"]


@router.post(
    "",
    summary="Upload a data set",
    status_code=201,
    response_model=Dataset,
    responses=openapi.refusals(*openapi.ASKED, *openapi.WITH_BODY, 409),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/zip": _BINARY,
                "application/x-tar": _BINARY,
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["file"],
                        "properties": {
                            "file": {"type": "string", "format": "binary"},
                            "name": {"type": "string"},
                            "strict": {"type": "boolean"},
                            "layout": {"type": "string"},
                            "allow_losses": {"type": "boolean"},
                        },
                    }
                },
            },
        }
    },
)
async def upload(
    request: Request,
    name: Annotated[
        str | None,
        Query(pattern=NAME, description="What to call it; jobs may name it so. Needed, here or as a field of the form"),
    ] = None,
    strict: Annotated[bool, Query(description="Refuse the whole set for one flaw, instead of leaving it out")] = False,
    layout: Annotated[
        str | None,
        Query(max_length=40, description=f"How it is laid out ({', '.join(LAYOUTS)}); found out when absent"),
    ] = None,
    allow_losses: Annotated[
        bool,
        Query(description="Import what is sound even where a class, a split or more than a tenth would be lost"),
    ] = False,
) -> Response:
    """Import a zip or tar: class folders, COCO, YOLO, VOC, CSV or JSONL with images, or ELEVATER lists.

    Every entry is checked, and the answer's `account` says what became of every file and annotation.
    """
    caller = allow(request, "jobs")
    options = Options(name=name, strict=strict, layout=layout, allow_losses=allow_losses)
    if name is None and not request.headers.get("content-type", "").startswith("multipart/"):
        raise no_name()

    context = context_of(request)
    limit = context.settings.max_upload_bytes
    limits = ArchiveLimits(max_entry_bytes=limit, max_total_bytes=4 * limit)
    async with received(request, caller.key_id) as (draft, sent):
        options = with_fields(options, sent.fields)
        importing = context.imports.run(
            caller.key_id,
            lambda watch: _store(request).import_(
                caller.key_id,
                options.name or "",
                draft.path,
                strict=options.strict,
                layout=options.layout,
                allow_losses=options.allow_losses,
                limits=limits,
                watch=watch,
            ),
        )
        made = await while_connected(request.receive, importing)

    return _json(_document(made), 201, {"Location": f"/v1/datasets/{made.id}"})


@router.get(
    "", summary="List data sets", response_model=DatasetList, responses=openapi.refusals(*openapi.ASKED, 422, 503)
)
async def list_datasets(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=200, description="How many at most")] = 50,
    after: Annotated[NoNul | None, Query(max_length=64, description="Only sets older than this id")] = None,
) -> Response:
    """The key's data sets, newest first."""
    caller = allow(request, "jobs")
    store = _store(request)
    found = await asyncio.to_thread(lambda: store.list(caller.key_id, limit=limit + 1, after=after))
    data = [_document(dataset) for dataset in found[:limit]]
    return _json(list_document(data, more=len(found) > limit))


@router.get("/{dataset_id}", summary="Show a data set", response_model=Dataset, responses=_ONE)
async def show(request: Request, dataset_id: str) -> Response:
    """Its classes, how many images each split and class has, and what was left out. By id or by name."""
    caller = allow(request, "jobs")
    return _json(_document(await asyncio.to_thread(_store(request).get, caller.key_id, dataset_id)))


@router.get(
    "/{dataset_id}/samples",
    summary="List the pictures of a data set",
    response_model=SampleList,
    responses=openapi.refusals(*openapi.ASKED, 404, 422, 503),
)
async def samples(
    request: Request,
    dataset_id: str,
    split: Annotated[Split | None, Query(description="Only this split")] = None,
    start: Annotated[int, Query(ge=0, le=2**31 - 1, description="The first number to show")] = 0,
    limit: Annotated[int, Query(ge=1, le=200, description="How many at most")] = 20,
) -> Response:
    """Pictures with their labels, boxes and captions, in the order of the set."""
    caller = allow(request, "jobs")
    dataset = await asyncio.to_thread(_store(request).get, caller.key_id, dataset_id)
    page, following = await asyncio.to_thread(_page, request, dataset, split, start, limit)
    return _json({"object": "list", "data": page, "has_more": following is not None, "next": following})


@router.get(
    "/{dataset_id}/samples/{number}/image",
    summary="Get a picture of a data set",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": _BINARY}}, **openapi.refusals(*openapi.ASKED, 404, 422, 503)},
)
async def image(request: Request, dataset_id: str, number: int) -> Response:
    """The file as it was uploaded."""
    caller = allow(request, "jobs")
    dataset = await asyncio.to_thread(_store(request).get, caller.key_id, dataset_id)
    data, media_type = await asyncio.to_thread(_image, request, dataset, number)
    return Response(data, media_type=media_type)


@router.delete("/{dataset_id}", summary="Delete a data set", response_model=Deleted, responses=_ONE)
async def delete(request: Request, dataset_id: str) -> Response:
    """Remove a data set. Models that were trained on it stay."""
    caller = allow(request, "jobs")
    dataset = await asyncio.to_thread(_store(request).get, caller.key_id, dataset_id)
    await asyncio.to_thread(_store(request).delete, caller.key_id, dataset.id)
    return _json({"id": dataset.id, "object": "dataset", "deleted": True})


def _store(request: Request) -> stores.DatasetStore:
    context = context_of(request)
    return dataset_store(context.settings, context.jobs.engine, context.jobs.artifacts)


def _page(
    request: Request, dataset: stores.Dataset, split: Split | None, start: int, limit: int
) -> tuple[list[dict[str, Any]], int | None]:
    with _store(request).open(dataset, context_of(request).settings.cache_dir / "datasets") as package:
        chosen = [
            (number, stored)
            for number, stored in enumerate(package.samples[start:], start)
            if split is None or stored.sample.split == split
        ]
    page = [_sample(dataset, number, stored) for number, stored in chosen[:limit]]
    return page, chosen[limit][0] if len(chosen) > limit else None


def _image(request: Request, dataset: stores.Dataset, number: int) -> tuple[bytes, str]:
    with _store(request).open(dataset, context_of(request).settings.cache_dir / "datasets") as package:
        if not 0 <= number < len(package.samples):
            raise Problem(
                Kind.NOT_FOUND,
                "sample-not-found",
                "The data set has no such picture",
                f"{dataset.name!r} has {len(package.samples)} pictures, counted from 0.",
            )
        stored = package.samples[number]
        suffix = PurePosixPath(stored.image).suffix
        return package.read(stored), MEDIA_TYPES.get(suffix, "image/jpeg")


def _sample(dataset: stores.Dataset, number: int, stored: Stored) -> dict[str, Any]:
    sample = stored.sample
    return {
        "number": number,
        "path": sample.path,
        "split": sample.split,
        "width": stored.width,
        "height": stored.height,
        "labels": [dataset.classes[label] for label in sample.labels],
        "boxes": [_box(dataset, box) for box in sample.boxes if not box.ignore],
        "ignored": [_box(dataset, box) for box in sample.boxes if box.ignore],
        "captions": sample.captions,
        "url": f"/v1/datasets/{dataset.id}/samples/{number}/image",
    }


def _box(dataset: stores.Dataset, box: Box) -> dict[str, Any]:
    return {"label": dataset.classes[box.label], "box": box.xyxy}


def _document(dataset: stores.Dataset) -> dict[str, Any]:
    return {
        "object": "dataset",
        "id": dataset.id,
        "name": dataset.name,
        "task": dataset.task,
        "format": dataset.format,
        "classes": dataset.classes,
        "counts": dataset.splits,
        "class_counts": dataset.counts,
        "problems": dataset.flaws,
        "problem_count": dataset.flaw_count,
        "account": dataset.account,
        "created_at": dataset.created_at,
    }


def _json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, "application/json")
