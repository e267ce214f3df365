"""What a user can name: commands and their options, settings, metrics, addresses with their fields, the client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from speed.against.checkout import Checkout
from speed.against.data import unpacked

_INSIDE = '''
import inspect, json
import click, typer
import sightline
from services.settings import Settings
from sightline.cli.main import app

def commands(command, name):
    options = sorted(flag for one in command.params for flag in (*one.opts, *one.secondary_opts))
    found = {name: options}
    for word, inner in getattr(command, "commands", {}).items():
        found |= commands(inner, f"{name} {word}")
    return found

def members(client, name):
    """Methods with their parameters, those of its parts (``client.jobs``) too."""
    found = {}
    for word in dir(client):
        value = None if word.startswith("_") else getattr(client, word)
        if inspect.ismethod(value):
            found[f"{name}.{word}"] = list(inspect.signature(value).parameters)
        elif type(value).__module__.startswith("sightline"):
            found |= members(value, f"{name}.{word}")
    return found

print(json.dumps({
    "commands": commands(typer.main.get_command(app), "sightline"),
    "settings": {name: repr(field.default) for name, field in Settings.model_fields.items()},
    "exports": {name: [] for name in sightline.__all__},
    "Client": members(sightline.Client("http://localhost"), "Client"),
    "AsyncClient": members(sightline.AsyncClient("http://localhost"), "AsyncClient"),
}))
'''


def compare(old: Checkout, new: Checkout, folder: Path) -> int:
    """Print what is gone; how many things are."""
    before, after = (named(checkout, folder / name) for name, checkout in (("old", old), ("new", new)))
    gone = list(missing(before, after))
    print("\n".join(gone) or "Nothing is gone.")
    print("\n".join(f"{kind}: {len(before[kind])} before, {len(after[kind])} now" for kind in before))
    return len(gone)


def named(checkout: Checkout, folder: Path) -> dict[str, Any]:
    """Everything by kind, as its own Python and its server tell it."""
    found: dict[str, Any] = json.loads(checkout.run("-c", _INSIDE))
    data, keys = unpacked(folder)
    with ExitStack() as stack:
        serving = stack.enter_context(checkout.serving(data, folder / "log", SIGHTLINE_JOBS="false"))
        headers = {"Authorization": f"Bearer {keys['admin']}"}
        http = stack.enter_context(httpx.Client(base_url=serving.url, headers=headers, trust_env=False, timeout=60))
        http.post("/v1/classify", json={"model": "tiny-classifier"})
        metrics = http.get("/metrics").text.splitlines()
        document = http.get("/openapi.json").json()
    found["metrics"] = {line.split()[2]: line.split()[3:] for line in metrics if line.startswith("# TYPE")}
    found["addresses"] = dict(addresses(document))
    return found


def addresses(document: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Every method and path with the names of its parameters, of the fields of its body and of its answer."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            names = [f"{one['in']} {one['name']}" for one in operation.get("parameters", ())]
            names += [f"status {code}" for code in operation["responses"]]
            content = {"body": operation.get("requestBody", {}).get("content", {})}
            content |= {code: answer.get("content", {}) for code, answer in operation["responses"].items()}
            for what, types in content.items():
                for media, entry in types.items():
                    names += [f"{what} {media} {name}" for name in fields(entry.get("schema", {}), document)]
            yield f"{method.upper()} {path}", sorted(set(names))


def fields(schema: dict[str, Any], document: dict[str, Any], seen: tuple[str, ...] = ()) -> Iterator[str]:
    """Names of all properties, those of inner objects behind a dot."""
    reference = schema.get("$ref", "")
    if reference:
        name = reference.rpartition("/")[2]
        if name not in seen:
            yield from fields(document["components"]["schemas"][name], document, (*seen, name))
        return
    for name, inner in schema.get("properties", {}).items():
        yield name
        yield from (f"{name}.{below}" for below in fields(inner, document, seen))
    for inner in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from fields(inner, document, seen)
    if isinstance(schema.get("items"), dict):
        yield from fields(schema["items"], document, seen)


def missing(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """Names that were there before, and values of settings that are others now."""
    if isinstance(old, dict):
        for name, value in old.items():
            if name not in new:
                yield f"gone: {where}/{name}"
            else:
                yield from missing(value, new[name], f"{where}/{name}")
    elif isinstance(old, list):
        yield from (f"gone: {where}: {name}" for name in old if name not in new)
    elif old != new:
        yield f"other: {where} is {new} instead of {old}"
