"""The manifests are what Kubernetes accepts, fit each other, and say the same as the rest of ``deploy``."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy.kubernetes import build
from services.settings import Settings
from tests.support import compose, exported
from tests.support.custom_kinds import CUSTOM
from tests.support.kustomize import Manifest, containers, render
from tests.support.promql import metrics_of

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
OVERLAYS = {"base": FOLDER / "base", "cpu": FOLDER / "overlays" / "cpu", "gpu": FOLDER / "overlays" / "gpu"}
VERSIONS = ("1.31", "1.34")
"""Of Kubernetes, the oldest and the newest that the manifests are checked for."""

COMPONENT = "app.kubernetes.io/component"


@pytest.fixture(scope="module", params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return render(OVERLAYS[request.param])


def of(manifests: list[Manifest], *kinds: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and ``spec`` of every manifest of a kind."""
    return ((one["metadata"]["name"], one["spec"]) for one in manifests if one["kind"] in kinds)


def workloads(manifests: list[Manifest]) -> dict[str, dict[str, Any]]:
    return dict(of(manifests, "Deployment", "StatefulSet"))


def pod_labels(manifests: list[Manifest]) -> dict[str, dict[str, str]]:
    return {name: spec["template"]["metadata"]["labels"] for name, spec in workloads(manifests).items()}


def selected(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(
        expression["operator"] == "In" and labels.get(expression["key"]) in expression["values"]
        for expression in selector.get("matchExpressions", ())
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_accepts_every_manifest(manifests: list[Manifest], version: str) -> None:
    for one in manifests:
        custom = CUSTOM.get((one["apiVersion"], one["kind"]))
        if custom is None:
            kubernetes_validate.validate(one, version, strict=True)
        else:
            assert set(one) == {"apiVersion", "kind", "metadata", "spec"}
            custom.model_validate(one["spec"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomize_renders_the_same(overlay: str) -> None:
    kubectl = shutil.which("kubectl")
    if (
        kubectl is None
        or "v5." not in subprocess.run([kubectl, "version", "--client"], capture_output=True, text=True).stdout
    ):
        pytest.skip("kubectl with kustomize 5 is not installed: the manifests are checked as this project renders them")
    done = subprocess.run([kubectl, "kustomize", OVERLAYS[overlay]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    theirs = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(done.stdout)}
    ours = {(one["kind"], one["metadata"]["name"]): one for one in render(OVERLAYS[overlay])}
    assert theirs == ours


def test_manifests_that_are_built_are_those_that_are_committed() -> None:
    for name, text in build.documents().items():
        assert (build.BASE / name).read_text() == text, f"{name}: run python -m deploy.kubernetes.build"


def test_alerts_are_about_this_platform_alone() -> None:
    groups = yaml.safe_load(build.documents()["alerts.yaml"])["spec"]["groups"]
    for expression in (rule["expr"] for group in groups for rule in group["rules"]):
        for name in metrics_of(expression):
            # Ours by their names; those of GPUs and of Alertmanager come from other namespaces.
            if not name.startswith(("sightline", "DCGM_", "alertmanager_")):
                assert f'{name}{{namespace="sightline"' in expression


def test_every_pod_is_contained(manifests: list[Manifest]) -> None:
    for name, spec in workloads(manifests).items():
        pod = spec["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] > 0, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False and context["readOnlyRootFilesystem"] is True, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys(), name
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name
            assert container["livenessProbe"], name
            assert not any(re.search("PASSWORD|TOKEN|_URL$", entry["name"]) for entry in container.get("env", ())), name


def test_every_volume_that_is_mounted_is_there(manifests: list[Manifest]) -> None:
    claims = {one["metadata"]["name"] for one in manifests if one["kind"] == "PersistentVolumeClaim"}
    configs = {one["metadata"]["name"] for one in manifests if one["kind"] == "ConfigMap"}
    for name, spec in workloads(manifests).items():
        pod = spec["template"]["spec"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        own = {template["metadata"]["name"] for template in spec.get("volumeClaimTemplates", ())}
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounted == volumes.keys() | own, name
        for volume in volumes.values():
            assert volume.get("persistentVolumeClaim", {}).get("claimName", "data") in claims, name
            assert volume.get("configMap", {}).get("name", "settings") in configs, name
            assert volume.get("secret", {}).get("secretName", "sightline") == "sightline", name


def test_a_pod_is_given_the_secrets_that_docker_compose_gives_it(manifests: list[Manifest]) -> None:
    services = compose.configuration()["services"]
    for name, spec in workloads(manifests).items():
        secrets = [volume["secret"] for volume in spec["template"]["spec"]["volumes"] if "secret" in volume]
        given = {item["key"] for secret in secrets for item in secret["items"]}
        wanted = {one["source"] for one in services.get(name, {}).get("secrets", ())}
        if name == "redis":  # its exporter is beside it
            wanted |= {one["source"] for one in services["redis-exporter"]["secrets"]}
        assert given == wanted, name


def test_pods_get_more_time_to_stop_than_they_take(manifests: list[Manifest]) -> None:
    settings = Settings(**_settings(manifests))
    drain, margin = settings.lame_duck_seconds + settings.drain_seconds, 5
    for name, spec in workloads(manifests).items():
        grace = spec["template"]["spec"]["terminationGracePeriodSeconds"]
        if name == "gateway":
            assert grace > settings.drain_seconds + drain + margin  # maintenance beside it stops first
        elif name.startswith(("worker-", "torch-worker")):
            assert grace > settings.drain_seconds + margin
        elif name.startswith("triton-"):
            (container,) = spec["template"]["spec"]["containers"]
            (exit_timeout,) = re.findall(r"--exit-timeout-secs=(\d+)", " ".join(container["args"]))
            assert grace > int(exit_timeout) + int(container["lifecycle"]["preStop"]["exec"]["command"][1])


def test_settings_are_read_as_they_are_meant(manifests: list[Manifest]) -> None:
    told = _settings(manifests)
    assert set(told) <= set(Settings.model_fields)
    settings = Settings(**told)
    assert (settings.auth, settings.queues, settings.celery_events) == ("required", (), True)


def _settings(manifests: list[Manifest]) -> dict[str, Any]:
    (config,) = [one for one in manifests if one["kind"] == "ConfigMap" and one["metadata"]["name"] == "settings"]
    values = {name.removeprefix("SIGHTLINE_").lower(): value for name, value in config["data"].items()}
    return {name: yaml.safe_load(value) if value.startswith("[") else value for name, value in values.items()}


def test_selectors_find_what_they_are_for(manifests: list[Manifest]) -> None:
    pods = pod_labels(manifests)
    for name, spec in of(manifests, "Deployment", "StatefulSet", "PodDisruptionBudget"):
        assert [pod for pod, labels in pods.items() if selected(spec["selector"], labels)] == [name]
    ports = {
        name: {port["name"] for container in containers_of(spec) for port in container.get("ports", ())}
        for name, spec in workloads(manifests).items()
    }
    for name, spec in of(manifests, "Service"):
        (pod,) = [pod for pod, labels in pods.items() if spec["selector"].items() <= labels.items()]
        assert {port["targetPort"] for port in spec["ports"]} <= ports[pod], name
    for name, spec in of(manifests, "NetworkPolicy"):
        if spec["podSelector"]:
            assert any(selected(spec["podSelector"], labels) for labels in pods.values()), name


def test_a_server_whose_model_is_not_ready_has_a_name(manifests: list[Manifest]) -> None:
    """Else the gateways, which load what is missing, could not reach it."""
    for name, spec in of(manifests, "Service"):
        if name.startswith("triton-"):
            assert spec["clusterIP"] == "None" and spec["publishNotReadyAddresses"], name


def containers_of(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return containers({"kind": "Deployment", "spec": spec})


def test_monitors_find_a_port_of_a_service_under_the_name_that_alerts_ask_for(manifests: list[Manifest]) -> None:
    services = [one for one in manifests if one["kind"] == "Service"]
    jobs = set()
    for name, spec in of(manifests, "ServiceMonitor"):
        found = [one for one in services if selected(spec["selector"], one["metadata"]["labels"])]
        assert found, name
        for service in found:
            jobs.add(service["metadata"]["labels"][spec["jobLabel"]])
            named = {port["name"] for port in service["spec"]["ports"]}
            assert {endpoint["port"] for endpoint in spec["endpoints"]} <= named, name
    scraped = yaml.safe_load((FOLDER.parent / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    assert jobs <= {job["job_name"] for job in scraped}


def test_what_scales_is_there_and_is_scaled_once(manifests: list[Manifest]) -> None:
    scaled = [spec["scaleTargetRef"]["name"] for _, spec in of(manifests, "HorizontalPodAutoscaler", "ScaledObject")]
    assert len(scaled) == len(set(scaled))
    workload = workloads(manifests)
    for name in scaled:
        assert "replicas" not in workload[name], f"{name}: two would set its replicas"
    assert {name for name in workload if name not in scaled} == {"redis", "celery-exporter", "torch-worker"}


def test_scalers_ask_for_metrics_that_are_exported(manifests: list[Manifest], tmp_path: Path) -> None:
    known = exported.own(tmp_path) | exported.TRITON
    for name, spec in of(manifests, "ScaledObject"):
        for trigger in spec["triggers"]:
            assert metrics_of(trigger["metadata"]["query"]) <= known, name
            if name.startswith("worker-"):
                assert f'queue="{name.removeprefix("worker-")}"' in trigger["metadata"]["query"]
            else:
                assert f'model="{name.removeprefix("triton-")}"' in trigger["metadata"]["query"]


def test_commands_and_images_are_those_of_docker_compose(manifests: list[Manifest]) -> None:
    """Which a test executes."""
    services = compose.configuration()["services"]
    for name, spec in workloads(manifests).items():
        container = containers_of(spec)[0]
        service = services["triton-gpu" if name.startswith("triton-") else name]
        assert container["image"] == service["image"], name
        if not name.startswith("triton-"):
            assert container["args"] == service["command"], name


def test_servers_of_triton_differ_in_their_model_alone(manifests: list[Manifest]) -> None:
    servers = {name: spec for name, spec in workloads(manifests).items() if name.startswith("triton-")}
    forms = {yaml.safe_dump(spec).replace(name.removeprefix("triton-"), "MODEL") for name, spec in servers.items()}
    assert len(forms) == min(1, len(servers))
    settings = Settings(**_settings(manifests))
    assert settings.runtime == ("triton" if servers else "onnx")
    most = {
        spec["scaleTargetRef"]["name"]: spec.get("maxReplicas") or spec["maxReplicaCount"]
        for _, spec in of(manifests, "HorizontalPodAutoscaler", "ScaledObject")
    }
    # A pod of a StatefulSet has the name of its place, under that of the service; a server is asked for its model only.
    assert not servers or set(settings.triton_urls) == {
        f"{name}-{place}.{name}:8001/{name.removeprefix('triton-')}" for name in servers for place in range(most[name])
    }
    assert all(spec["serviceName"] == name for name, spec in servers.items())
    grpc = {name for name, spec in of(manifests, "Service") for port in spec["ports"] if port["port"] == 8001}
    assert grpc == set(servers)


def test_a_gpu_is_asked_for_where_one_is_used() -> None:
    for overlay, count in (("cpu", 0), ("gpu", 5)):
        found = workloads(render(OVERLAYS[overlay]))
        with_gpu = [
            name for name, spec in found.items() if "nvidia.com/gpu" in containers_of(spec)[0]["resources"]["limits"]
        ]
        assert len(with_gpu) == count
        trainers = ("worker-finetune", "worker-benchmark", "torch-worker")
        assert all(name.startswith("triton-") or name in trainers for name in with_gpu)


# Who may speak to whom


def may(manifests: list[Manifest], source: str, target: str, port: int) -> bool:
    """Whether the policies let pods of one workload open a connection to another's."""
    pods = pod_labels(manifests)

    def open_on(direction: str, here: str, there: str, side: str) -> bool:
        policies = [
            spec
            for _, spec in of(manifests, "NetworkPolicy")
            if direction in spec["policyTypes"] and selected(spec["podSelector"], pods[here])
        ]
        rules = [rule for spec in policies for rule in spec.get(direction.lower(), ())]
        return not policies or any(
            any(entry["port"] == port for entry in rule["ports"])
            and (side not in rule or any(_peer(peer, pods[there]) for peer in rule[side]))
            for rule in rules
        )

    return open_on("Egress", source, target, "to") and open_on("Ingress", target, source, "from")


def _peer(peer: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a pod of this namespace is meant."""
    if "ipBlock" in peer:
        return False
    if "namespaceSelector" in peer:
        namespace = {"kubernetes.io/metadata.name": "sightline"}
        return selected(peer["namespaceSelector"], namespace) and selected(peer.get("podSelector", {}), labels)
    return selected(peer["podSelector"], labels)


def test_policies_let_through_what_is_needed_and_nothing_else(manifests: list[Manifest]) -> None:
    pods = pod_labels(manifests)
    ports = {"gateway": (8000,), "redis": (6379, 9121), "celery-exporter": (9808,), "torch-worker": (8020,)}
    ports |= {name: (8000, 8001, 8002) for name in pods if name.startswith("triton-")}
    needed = {("gateway", "gateway", 8000), ("gateway", "redis", 6379), ("celery-exporter", "redis", 6379)}
    needed |= {("redis", "redis", 6379), ("gateway", "torch-worker", 8020)}
    for name in pods:
        if name.startswith("worker-"):
            needed |= {(name, "gateway", 8000), (name, "redis", 6379)}
        if name.startswith("triton-"):
            needed |= {(one, name, 8001) for one in pods if one == "gateway" or one.startswith("worker-")}
    possible = {
        (source, target, port)
        for source in pods
        for target, opened in ports.items()
        for port in opened
        if may(manifests, source, target, port)
    }
    assert possible == needed


def test_a_kustomization_beyond_the_renderer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: []\nreplicas: []\n")
    with pytest.raises(AssertionError, match="replicas"):
        render(tmp_path)
