"""``python -m deploy.kubernetes.build``: writes the manifests that hold files of other folders of ``deploy``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[1]
BASE = DEPLOY / "kubernetes" / "base"

_ANYBODYS = re.compile(r"\b(up|redis_\w+|nv_\w+)\b(\{?)")
"""Metrics that others in a cluster export, too, and where their labels begin."""


def main() -> int:
    for name, text in documents().items():
        (BASE / name).write_text(text)
    return 0


def documents() -> dict[str, str]:
    """Each generated file by name."""
    config = (DEPLOY / "redis" / "redis.conf").read_text()
    paths = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
    groups = [group for path in paths for group in yaml.safe_load(path.read_text())["groups"]]
    for rule in (rule for group in groups for rule in group["rules"]):
        rule["expr"] = _ours(rule["expr"])
    return {
        "redis-config.yaml": _text(
            "redis/redis.conf",
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "redis-config"},
                "data": {"redis.conf": config},
            },
        ),
        "alerts.yaml": _text(
            "prometheus/rules",
            {
                "apiVersion": "monitoring.coreos.com/v1",
                "kind": "PrometheusRule",
                "metadata": {"name": "sightline"},
                "spec": {"groups": groups},
            },
        ),
    }


def _ours(expression: str) -> str:
    """A cluster's Prometheus watches everybody: an expression about this platform's namespace alone."""
    return _ANYBODYS.sub(lambda it: it[1] + '{namespace="sightline"' + (", " if it[2] else "}"), expression)


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as such."""


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent)


def _text(source: str, document: dict[str, Any]) -> str:
    body = yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120)
    return f"# Built from deploy/{source} by python -m deploy.kubernetes.build; edits are lost.\n{body}"


if __name__ == "__main__":
    sys.exit(main())
