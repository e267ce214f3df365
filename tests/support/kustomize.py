"""Renders a kustomization: the part of kustomize that ``deploy/kubernetes`` uses; refuses every other part."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

KNOWN = {"apiVersion", "kind", "namespace", "labels", "resources", "images", "patches"}
CLUSTER = {"Namespace"}
"""Kinds that are in no namespace."""


def render(folder: Path) -> list[Manifest]:
    """Every manifest of the kustomization in ``folder``."""
    told = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert set(told) <= KNOWN, f"{folder}: this renderer knows no {set(told) - KNOWN}"
    found: list[Manifest] = []
    for name in told["resources"]:
        path = folder / name
        if path.is_dir():
            found += render(path)
        else:
            found += [document for document in yaml.safe_load_all(path.read_text()) if document]
    found = copy.deepcopy(found)  # anchors of YAML are one object in several places
    for patch in told.get("patches", ()):
        targets = [one for one in found if _is_meant(one, patch["target"])]
        assert targets, f"{folder}: nothing is {patch['target']}"
        for one in targets:
            for operation in yaml.safe_load(patch["patch"]):
                _apply(one, operation)
    for one in found:
        metadata = one["metadata"]
        if "namespace" in told and one["kind"] not in CLUSTER:
            metadata["namespace"] = told["namespace"]
        for pairs in told.get("labels", ()):
            assert set(pairs) == {"pairs"}
            metadata.setdefault("labels", {}).update(pairs["pairs"])
        for container in containers(one):
            for image in told.get("images", ()):
                assert set(image) == {"name", "newTag"}
                if container["image"] == image["name"]:
                    container["image"] = f"{image['name']}:{image['newTag']}"
    names = [(one["kind"], one["metadata"]["name"]) for one in found]
    assert len(names) == len(set(names)), f"{folder}: a name is there twice"
    return found


def containers(manifest: Manifest) -> list[dict[str, Any]]:
    """The containers of a workload."""
    if manifest["kind"] not in ("Deployment", "StatefulSet"):
        return []
    found: list[dict[str, Any]] = manifest["spec"]["template"]["spec"]["containers"]
    return found


def _is_meant(manifest: Manifest, target: dict[str, str]) -> bool:
    assert set(target) <= {"kind", "name", "labelSelector"}
    metadata = manifest["metadata"]
    if manifest["kind"] != target["kind"] or not re.fullmatch(target.get("name", ".*"), metadata["name"]):
        return False
    key, _, value = target.get("labelSelector", "").partition("=")
    return not key or metadata.get("labels", {}).get(key) == value


def _apply(manifest: Manifest, operation: dict[str, Any]) -> None:
    *above, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    place: Any = manifest
    for part in above:
        place = place[int(part)] if isinstance(place, list) else place[part]
    assert operation["op"] in ("add", "replace")
    assert operation["op"] == "add" or last in place
    place[last] = copy.deepcopy(operation["value"])
