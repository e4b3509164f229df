"""The manifests of infra/kubernetes: well-formed, locked, without secrets, and accepted by a real API server."""

import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from tests.infra.expressions import RULES
from tests.infra.manifests import KUBERNETES, WHOLE, Manifest, pod_templates, render, render_changed, render_overlay
from tests.kubernetes import CrdServer, SmallCluster

# The oldest that KServe and Trainer ask for is 1.32; its schemas and the newest ones.
VERSIONS = ("1.32", "1.37")
OURS = ("serving.kserve.io", "trainer.kubeflow.org", "monitoring.coreos.com")
ACCOUNTS = ("mscflow-pipeline", "mscflow-training", "mscflow-predictor", "mscflow-mlflow")


@pytest.fixture(scope="module", params=WHOLE)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return render(KUBERNETES / request.param)


def group(manifest: Manifest) -> str:
    return str(manifest["apiVersion"]).rpartition("/")[0]


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    [found] = [each for each in manifests if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def values(tree: Any) -> Iterator[tuple[str, Any]]:
    """Give each key and value of a tree."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield str(key), value
        yield from values(value)


@pytest.mark.parametrize("version", VERSIONS)
def test_core_objects_fit_the_strict_schemas_of_kubernetes(manifests: list[Manifest], version: str) -> None:
    core = [each for each in manifests if group(each) not in OURS]
    assert core
    for each in core:
        assert kubernetes_validate.validate(each, version, strict=True) == version


def test_the_strict_schemas_refuse_what_is_misspelt() -> None:
    deployment = named(render_overlay("dev"), "Deployment", "mlflow")
    deployment["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readinesProbe"):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)


def test_every_pod_keeps_to_the_restricted_standard_and_writes_to_tmp_alone(manifests: list[Manifest]) -> None:
    for name, template in pod_templates(manifests):
        spec = template["spec"]
        for container in spec["containers"]:
            user = {**spec.get("securityContext", {}), **container["securityContext"]}
            assert user["runAsNonRoot"] and user["runAsUser"] > 0, name
            assert user["seccompProfile"] == {"type": "RuntimeDefault"}, name
            assert user["readOnlyRootFilesystem"] and not user["allowPrivilegeEscalation"], name
            assert user["capabilities"] == {"drop": ["ALL"]}, name
            # The TrainJob brings those of its node.
            assert container["resources"]["limits"]["memory"] if "TrainingRuntime" not in name else True, name
        assert not {volume["name"] for volume in spec["volumes"] if "hostPath" in volume}, name


def test_only_the_steps_get_a_token_for_the_api_server(manifests: list[Manifest]) -> None:
    accounts = [each for each in render_overlay("dev") if each["kind"] == "ServiceAccount"]
    tokens = {each["metadata"]["name"] for each in accounts if each.get("automountServiceAccountToken", True)}
    assert tokens == {"mscflow-pipeline"}
    names = {each["metadata"]["name"] for each in accounts}
    for name, template in pod_templates(manifests):
        assert template["spec"].get("serviceAccountName", "mscflow-predictor") in names - tokens or "postgres" in name
        assert template["spec"].get("automountServiceAccountToken", "ServingRuntime" not in name) is False


def test_no_secret_is_written_down(manifests: list[Manifest]) -> None:
    assert not [each for each in manifests if each["kind"] == "Secret"]
    words = ("password", "secret_access_key", "access_key_id", "token")
    for each in manifests:
        for _, value in values(each):
            if isinstance(value, dict) and any(word in str(value.get("name", "")).lower() for word in words):
                assert "value" not in value, value
        data = each.get("data", {})
        assert not [key for key in data if any(word in key.lower() for word in words)]


def test_no_pod_waits_for_the_stores_keys() -> None:
    asked = [
        value
        for key, value in values(render_overlay("production"))
        if key == "secretRef" and value["name"] == "mscflow-s3"
    ]
    assert asked
    assert all(each.get("optional") for each in asked), "an account of the cloud may stand for the keys"


def test_policies_and_budgets_pick_pods_that_there_are(manifests: list[Manifest]) -> None:
    worn = [template["metadata"].get("labels", {}) for _, template in pod_templates(manifests)]
    # Worn by the pods that KServe and Trainer make, and by those of the steps' rollout.
    theirs = {"serving.kserve.io/inferenceservice", "jobset.sigs.k8s.io/jobset-name"}
    for each in manifests:
        selector = each.get("spec", {}).get("podSelector") or each.get("spec", {}).get("selector", {})
        wanted = selector.get("matchLabels", {})
        if wanted and each["kind"] in ("NetworkPolicy", "PodDisruptionBudget", "Service", "Deployment"):
            found = [labels for labels in worn if wanted.items() <= labels.items()]
            assert found or each["metadata"]["name"] == "predictor", each["metadata"]["name"]
        assert {found["key"] for found in selector.get("matchExpressions", ())} <= theirs


def test_alerts_are_those_that_promtool_proves() -> None:
    make = runpy.run_path(str(KUBERNETES / "alerts.py"))
    assert make["TARGET"].read_text() == make["as_resource"](RULES.read_text())


def test_another_release_has_another_name_so_that_the_pods_roll(tmp_path: Path) -> None:
    def map_of(release: str) -> str:
        made = {"name": "mscflow-release", "namespace": "mscflow", "behavior": "merge"}
        rendered = render_changed("dev", tmp_path, configMapGenerator=[{**made, "literals": [f"RELEASE={release}"]}])
        [container] = named(rendered, "Deployment", "mscflow-predictor")["spec"]["template"]["spec"]["containers"]
        return str(container["envFrom"][0]["configMapRef"]["name"])

    assert map_of("s3://a/releases/1") != map_of("s3://a/releases/2") != "mscflow-release"


def as_served(manifest: Manifest) -> Manifest:
    """A ServingRuntime has no definition on this server; its spec is its cluster-wide twin's."""
    return manifest | ({"kind": "ClusterServingRuntime"} if manifest["kind"] == "ServingRuntime" else {})


@pytest.mark.cluster
def test_the_api_server_takes_every_custom_resource_that_it_knows(crd_server: CrdServer) -> None:
    ours = [as_served(each) for each in render_overlay("production") if group(each) in OURS[:2]]
    assert {each["kind"] for each in ours} == {"ClusterServingRuntime", "TrainingRuntime"}
    said = crd_server.check(*ours)
    assert said.count(": ok") == len(ours), said


@pytest.mark.cluster
def test_the_api_server_refuses_a_field_that_it_does_not_know(crd_server: CrdServer) -> None:
    runtime = named(render_overlay("production"), "TrainingRuntime", "mscflow-torch")
    runtime["spec"]["mlPolicy"]["numNode"] = runtime["spec"]["mlPolicy"].pop("numNodes")
    with pytest.raises(RuntimeError, match="numNode"):
        crd_server.check(runtime)


@pytest.fixture(scope="module")
def accounts(small_cluster: SmallCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A namespace with our accounts and their rights."""
    with small_cluster.namespace() as namespace:
        rendered = render_changed("dev", tmp_path_factory.mktemp("rights"), namespace=namespace)
        kinds = ("ServiceAccount", "Role", "RoleBinding")
        small_cluster.apply(*(each for each in rendered if each["kind"] in kinds), namespace=namespace)
        yield namespace


def asked(cluster: SmallCluster, namespace: str, account: str, *request: str) -> str:
    """Say what the API server answers to a request of an account."""
    who = f"--as=system:serviceaccount:{namespace}:{account}"
    return cluster.kubectl(who, f"--namespace={namespace}", *request, check=False)


@pytest.mark.cluster
@pytest.mark.parametrize(
    "request_",
    [
        "get secrets",
        "get secret mscflow-s3",
        "get configmaps",
        "get serviceaccounts",
        "get pods --namespace=kube-system",
        "get nodes",
        "delete pod x",
        "create deployment x --image=x",
        "create job x --image=x",
        "create role x --verb=get --resource=secrets",
        "create clusterrolebinding mscflow-x --clusterrole=cluster-admin --serviceaccount=default:default",
        "run x --image=x",
    ],
)
@pytest.mark.parametrize("account", ACCOUNTS)
def test_the_api_server_refuses_what_no_account_of_ours_needs(
    small_cluster: SmallCluster, accounts: str, account: str, request_: str
) -> None:
    said = asked(small_cluster, accounts, account, *request_.split())
    assert "forbidden" in said.lower(), said


@pytest.mark.cluster
@pytest.mark.parametrize(
    "request_",
    [
        {"verb": "create", "group": "trainer.kubeflow.org", "resource": "trainjobs"},
        {"verb": "delete", "group": "trainer.kubeflow.org", "resource": "trainjobs"},
        {"verb": "update", "group": "serving.kserve.io", "resource": "inferenceservices"},
        {"verb": "create", "group": "argoproj.io", "resource": "workflowtaskresults"},
        {"verb": "get", "resource": "pods", "subresource": "log"},
        {"verb": "list", "resource": "pods"},
        {"verb": "get", "resource": "configmaps", "name": "kfp-launcher"},
    ],
    ids=lambda request: f"{request['verb']} {request['resource']}",
)
def test_the_steps_alone_may_do_what_they_are_for(
    small_cluster: SmallCluster, accounts: str, request_: dict[str, str]
) -> None:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"namespace": accounts, **request_}},
    }
    for account in ACCOUNTS:
        who = f"--as=system:serviceaccount:{accounts}:{account}"
        path = "--raw=/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        said = json.loads(small_cluster.kubectl(who, "create", path, "--filename=-", given=json.dumps(review)))
        assert said["status"]["allowed"] == (account == "mscflow-pipeline"), said
