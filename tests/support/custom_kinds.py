"""What KEDA and the Prometheus operator accept, as far as ``deploy/kubernetes`` uses it: unknown fields are refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[str, Field(pattern=r"^\d+s$")]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Named(Strict):
    name: str


class Policy(Strict):
    type: Literal["Pods", "Percent"]
    value: int
    periodSeconds: Annotated[int, Field(gt=0, le=1800)]


class Rules(Strict):
    stabilizationWindowSeconds: Annotated[int, Field(ge=0, le=3600)]
    policies: list[Policy]


class Behavior(Strict):
    scaleDown: Rules


class AutoscalerConfig(Strict):
    behavior: Behavior


class Advanced(Strict):
    horizontalPodAutoscalerConfig: AutoscalerConfig


class PrometheusQuery(Strict):
    """KEDA takes every value of a trigger as text."""

    serverAddress: Annotated[str, Field(pattern=r"^https?://")]
    query: str
    threshold: Annotated[str, Field(pattern=r"^\d+$")]


class Trigger(Strict):
    type: Literal["prometheus"]
    metadata: PrometheusQuery


class Fallback(Strict):
    failureThreshold: int
    replicas: int


class Scaled(Strict):
    name: str
    kind: Literal["Deployment", "StatefulSet"] = "Deployment"


class ScaledObject(Strict):
    """keda.sh/v1alpha1."""

    scaleTargetRef: Scaled
    minReplicaCount: int
    maxReplicaCount: int
    pollingInterval: int
    cooldownPeriod: int = 300
    fallback: Fallback
    advanced: Advanced | None = None
    triggers: list[Trigger]


class KeyOfSecret(Strict):
    name: str
    key: str


class Authorization(Strict):
    credentials: KeyOfSecret


class Endpoint(Strict):
    port: str
    path: str = "/metrics"
    interval: Seconds
    scrapeTimeout: Seconds | None = None
    authorization: Authorization | None = None


class Labels(Strict):
    matchLabels: dict[str, str]


class ServiceMonitor(Strict):
    """monitoring.coreos.com/v1."""

    jobLabel: str
    selector: Labels
    endpoints: list[Endpoint]


class Rule(Strict):
    alert: str | None = None
    record: str | None = None
    expr: str
    for_: str | None = Field(None, alias="for")
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Group(Strict):
    name: str
    interval: Seconds | None = None
    rules: list[Rule]


class PrometheusRule(Strict):
    """monitoring.coreos.com/v1."""

    groups: list[Group]


CUSTOM: dict[tuple[str, str], type[BaseModel]] = {
    ("keda.sh/v1alpha1", "ScaledObject"): ScaledObject,
    ("monitoring.coreos.com/v1", "ServiceMonitor"): ServiceMonitor,
    ("monitoring.coreos.com/v1", "PrometheusRule"): PrometheusRule,
}
