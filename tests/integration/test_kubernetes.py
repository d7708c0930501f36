"""docker/kubernetes: the same processes, secrets and guards as the composition, as plain manifests."""

from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.accounts import composition
from workers.adapters.rq_factory import QUEUES

FOLDER: Final = Path(__file__).parents[2] / "docker" / "kubernetes"
VERSIONS: Final = {
    "Namespace": "v1",
    "ConfigMap": "v1",
    "Service": "v1",
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "TriggerAuthentication": "keda.sh/v1alpha1",
    "ScaledObject": "keda.sh/v1alpha1",
}
POD: Final = {
    "automountServiceAccountToken",
    "enableServiceLinks",
    "terminationGracePeriodSeconds",
    "securityContext",
    "containers",
    "volumes",
}
CONTAINER: Final = {
    "name",
    "image",
    "imagePullPolicy",
    "args",
    "env",
    "envFrom",
    "ports",
    "securityContext",
    "resources",
    "startupProbe",
    "readinessProbe",
    "livenessProbe",
    "volumeMounts",
}
TOOLS: Final = {"accounts", "redis", "operator", "control"}


def objects() -> list[dict[str, Any]]:
    """Every manifest."""
    return [one for file in sorted(FOLDER.glob("*.yaml")) for one in yaml.safe_load_all(file.read_text("utf-8"))]


def of(kind: str) -> dict[str, dict[str, Any]]:
    """Those of a kind by name."""
    return {one["metadata"]["name"]: one for one in objects() if one["kind"] == kind}


def pods() -> dict[str, dict[str, Any]]:
    """The pod of every workload by name."""
    return {name: one["spec"]["template"]["spec"] for name, one in (of("Deployment") | of("StatefulSet")).items()}


def test_every_object_has_its_version_and_place() -> None:
    """A misspelt field is ignored by a cluster, so the known ones are listed."""
    for one in objects():
        assert one["apiVersion"] == VERSIONS[one["kind"]]
        assert one["metadata"].get("namespace", "fleet") == "fleet"
        assert set(one) <= {"apiVersion", "kind", "metadata", "spec", "data"}
    for name, pod in pods().items():
        assert set(pod) <= POD, name
        assert set(pod["containers"][0]) <= CONTAINER, name


def test_selectors_find_their_pods() -> None:
    """A Service or a Deployment that selects nothing is silent about it."""
    labels = {
        name: one["spec"]["template"]["metadata"]["labels"]
        for name, one in (of("Deployment") | of("StatefulSet")).items()
    }
    for name, one in (of("Deployment") | of("StatefulSet")).items():
        assert one["spec"]["selector"]["matchLabels"].items() <= labels[name].items()
    for name, service in of("Service").items():
        assert service["spec"]["selector"].items() <= labels[name].items()


def test_every_process_of_the_composition_is_here_with_the_same_words() -> None:
    """One image, one command line each, the secrets of its role."""
    services = {name: service for name, service in composition()["services"].items() if name not in TOOLS}
    found = pods()

    assert set(found) == {*services, "redis"}
    for name, service in services.items():
        assert found[name]["containers"][0]["args"] == service["command"]
        role = next(v.split(":")[0].removeprefix("secrets-") for v in service["volumes"] if v.startswith("secrets-"))
        assert found[name]["volumes"][0]["secret"]["secretName"] == f"fleet-{role}"
        assert found[name]["terminationGracePeriodSeconds"] == 90
    assert found["redis"]["containers"][0]["args"] == composition()["services"]["redis"]["command"]


def test_no_pod_can_do_more_than_it_must() -> None:
    """As in the composition: the restricted profile is enforced by the namespace."""
    for name, pod in pods().items():
        container = pod["containers"][0]
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert set(container["resources"]) == {"requests", "limits"}, name
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted <= {volume["name"] for volume in pod["volumes"]} | {"data"}, name


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_probes_are_the_compositions_healthchecks(probe: str) -> None:
    """A pod that does not turn is not ready; it is restarted much later, for an outage of Redis is no fault of it."""
    for name, service in composition()["services"].items():
        if name in TOOLS:
            continue
        found = pods()[name]["containers"][0][probe]
        if name == "dashboard":
            assert found["httpGet"] == {"path": "/healthz", "port": 9181}
        else:
            assert ["CMD", *found["exec"]["command"]] == service["healthcheck"]["test"]
    live = pods()["router"]["containers"][0]["livenessProbe"]
    assert live["periodSeconds"] * live["failureThreshold"] == 300


def test_workers_are_scaled_by_the_length_of_their_queue() -> None:
    """KEDA's Redis scaler asks for the list that RQ keeps, under the account of who only looks."""
    authentication = of("TriggerAuthentication")["redis"]["spec"]["secretTargetRef"]
    assert {one["parameter"] for one in authentication} == {"username", "password"}
    for name, scaled in of("ScaledObject").items():
        spec = scaled["spec"]
        trigger = spec["triggers"][0]
        queue = name.removeprefix("worker-")
        assert queue in QUEUES
        assert spec["scaleTargetRef"] == {"name": name}
        assert name in of("Deployment")
        assert 1 <= spec["minReplicaCount"] < spec["maxReplicaCount"]
        assert trigger["type"] == "redis"
        assert trigger["metadata"]["listName"] == f"rq:queue:{queue}"
        assert trigger["metadata"]["address"] == "redis.fleet.svc.cluster.local:6379"
        assert trigger["authenticationRef"] == {"name": "redis"}
        assert all(isinstance(value, str) for value in trigger["metadata"].values())
