"""What a compiled pipeline says of resources and pods, held against what KFP's own compiler writes of the same."""

import re

import pytest
import yaml
from google.protobuf import json_format
from kfp import components, dsl, kubernetes

from components.cluster import ClusterSettings
from components.settings import load_settings
from pipelines.arguments import pipeline_arguments
from pipelines.cluster.equipment import equip
from pipelines.cluster.parameters import Kind, cluster_arguments, kind_of
from pipelines.cluster.pods import pod
from pipelines.compile import PIPELINES, compile_pipeline, is_mutable

CLUSTER = ClusterSettings(retries=3, backoff=20, train_timeout=1000, config_map="m", storage_secret="s")
TMP, SHM = "/tmp", "/dev/shm"  # noqa: S108  mounted in a pod


@dsl.component(base_image="image", install_kfp_package=False)
def train(rate: float):
    pass


@dsl.pipeline(name="inner")
def bare(train_cpu: str, train_memory: str, train_gpus: str, gpu_type: str, train_nodes: dict, train_tolerations: list):
    train(rate=0.5)


@dsl.pipeline(name="inner")
def dressed(
    train_cpu: str, train_memory: str, train_gpus: str, gpu_type: str, train_nodes: dict, train_tolerations: list
):
    task = train(rate=0.5)
    task.set_cpu_limit(train_cpu).set_memory_limit(train_memory)
    task.set_accelerator_type(gpu_type).set_accelerator_limit(train_gpus)
    task.set_retry(3, backoff_duration="20s", backoff_factor=2, backoff_max_duration="4140s")
    for keys, optional in (
        (["MSCFLOW_STORE", "MSCFLOW_TRACKING_URI"], False),
        (["AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"], True),
    ):
        kubernetes.use_config_map_as_env(task, "m", {key: key for key in keys}, optional=optional)
    for secret, keys in (
        ("s", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]),
        ("mscflow-mlflow", ["MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"]),
        ("mscflow-search", ["MSCFLOW_SEARCH__STORAGE"]),
    ):
        kubernetes.use_secret_as_env(task, secret, {key: key for key in keys}, optional=True)
    kubernetes.use_field_path_as_env(task, "MSCFLOW_RUN", "metadata.labels['pipeline/runid']")
    kubernetes.empty_dir_mount(task, "temporary", TMP, size_limit="20Gi")
    kubernetes.empty_dir_mount(task, "shared-memory", SHM, medium="Memory", size_limit="2Gi")
    kubernetes.set_timeout(task, 1000)
    kubernetes.set_security_context(task, run_as_user=10001, run_as_group=0, run_as_non_root=True)
    kubernetes.add_node_selector_json(task, train_nodes)
    kubernetes.add_toleration_json(task, train_tolerations)


def test_it_says_of_a_step_what_kfp_writes_where_the_definition_says_it():
    spec, platform = bare.pipeline_spec, bare.platform_spec
    equip(spec, platform, CLUSTER)
    ours, theirs = map(json_format.MessageToDict, (spec, dressed.pipeline_spec))
    assert ours["root"]["dag"] == theirs["root"]["dag"]
    assert ours["deploymentSpec"] == theirs["deploymentSpec"]
    assert json_format.MessageToDict(platform) == json_format.MessageToDict(dressed.platform_spec)


@pytest.fixture(scope="module", params=PIPELINES)
def compiled(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    compile_pipeline(request.param, path)
    return tuple(yaml.safe_load_all(path.read_text()))


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_kfp_loads_it_as_a_whole_although_a_step_has_its_name(pipeline, tmp_path):
    compile_pipeline(pipeline, tmp_path / "pipeline.yaml")
    loaded = components.load_component_from_file(str(tmp_path / "pipeline.yaml"))
    assert set(cluster_arguments(ClusterSettings())) < set(loaded.component_spec.inputs)


def reached(spec, given, dag, label="root"):
    """Follow the named parameters from the root into every step, as the cluster does: what it and its pod get."""
    for name, task in dag["tasks"].items():
        inputs = {
            key: given[value["componentInputParameter"]]
            for key, value in task.get("inputs", {}).get("parameters", {}).items()
            if value.get("componentInputParameter") in given
        }
        component = spec["components"][task["componentRef"]["name"]]
        if "dag" in component:
            declared = component.get("inputDefinitions", {}).get("parameters", {})
            assert set(inputs) <= set(declared), f"{label} hands {name} what it does not declare"
            yield from reached(spec, inputs, component["dag"], name)
        else:
            yield component["executorLabel"], inputs, given


def test_what_a_run_is_started_with_reaches_every_step_and_its_pod(compiled):
    spec, platform = compiled
    given = {name: f"given as {name}" for name in cluster_arguments(ClusterSettings())}
    assert set(given) <= set(spec["root"]["inputDefinitions"]["parameters"])
    seen = set()
    for label, inputs, around in reached(spec, given, spec["root"]["dag"]):
        resources = spec["deploymentSpec"]["executors"][label]["container"]["resources"]
        asked = re.findall(r"inputs\.parameters\['([^']+)'\]", str(resources))
        kind = kind_of(label)
        assert {inputs[name] for name in asked} == {
            f"given as {name}"
            for name in [f"{kind}_cpu", f"{kind}_memory", *([f"{kind}_gpus", "gpu_type"] if kind.learns else [])]
        }
        config = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][label]
        assert around[config["nodeSelector"]["nodeSelectorJson"]["componentInputParameter"]] == f"given as {kind}_nodes"
        (toleration,) = config["tolerations"]
        assert around[toleration["tolerationJson"]["componentInputParameter"]] == f"given as {kind}_tolerations"
        seen.add(label)
    assert seen == set(spec["deploymentSpec"]["executors"])


def test_resources_are_text_as_the_cluster_reads_nothing_else_from_a_parameter():
    given = cluster_arguments(ClusterSettings(train={"gpus": 2}))
    assert given["train_gpus"] == "2"
    assert {name for name, value in given.items() if not isinstance(value, str)} == {
        f"{kind}_{what}" for kind in Kind for what in ("nodes", "tolerations")
    }


def test_the_settings_are_the_parameters_defaults(tmp_path):
    taint = {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}
    settings = load_settings(cluster={"train": {"gpus": 4, "nodes": {"gpu": "a100"}, "tolerations": [taint]}})
    compile_pipeline("train", tmp_path / "train.yaml", settings.cluster)
    spec, _ = yaml.safe_load_all((tmp_path / "train.yaml").read_text())
    defaults = {key: value.get("defaultValue") for key, value in spec["root"]["inputDefinitions"]["parameters"].items()}
    assert (defaults["train_gpus"], defaults["search_gpus"]) == ("4", "0")
    assert (defaults["train_nodes"], defaults["train_tolerations"]) == ({"gpu": "a100"}, [taint])
    assert defaults["source"] is None


def test_only_steps_that_fit_networks_get_shared_memory_and_their_own_time():
    learning, other = (json_format.MessageToDict(pod(kind, CLUSTER)) for kind in (Kind.TRAIN, Kind.CONTROL))
    assert [mount["mountPath"] for mount in learning["emptyDirMounts"]] == [TMP, SHM]
    assert [mount["mountPath"] for mount in other["emptyDirMounts"]] == [TMP]
    assert (learning["activeDeadlineSeconds"], other["activeDeadlineSeconds"]) == ("1000", "7200")


def test_every_step_is_told_by_reference_and_no_secret_is_written(compiled):
    _, platform = compiled
    for config in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        told = [
            pair["envVar"] for entry in config["configMapAsEnv"] + config["secretAsEnv"] for pair in entry["keyToEnv"]
        ]
        assert {"MSCFLOW_STORE", "MSCFLOW_TRACKING_URI", "AWS_SECRET_ACCESS_KEY"} <= set(told)


def test_the_password_of_the_searches_database_is_no_parameter_of_a_run():
    settings = load_settings(search={"storage": "postgresql+psycopg2://u:secret@host/searches"})
    assert "secret" not in str(pipeline_arguments(settings, "s3://source"))


def test_every_step_is_tried_again_and_every_run_tells_its_end(compiled):
    spec, _ = compiled
    dags = [spec["root"]["dag"], *(part["dag"] for part in spec["components"].values() if "dag" in part)]
    for dag in dags:
        for task in dag["tasks"].values():
            if "executorLabel" in spec["components"][task["componentRef"]["name"]]:
                assert task["retryPolicy"]["maxRetryCount"] == 2
    ended = spec["root"]["dag"]["tasks"]["end"]
    assert ended["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert not ended["cachingOptions"].get("enableCache")


def test_images_are_put_in_by_digest_each_in_its_steps(tmp_path):
    by_digest = {"train": "registry/train@sha256:1", "control": "registry/control@sha256:2"}
    images = compile_pipeline("train", tmp_path / "train.yaml", images=by_digest)
    assert images == sorted(by_digest.values())
    assert not any(map(is_mutable, images))
    spec, _ = yaml.safe_load_all((tmp_path / "train.yaml").read_text())
    executors = {label: each["container"]["image"] for label, each in spec["deploymentSpec"]["executors"].items()}
    assert {kind_of(label) for label, image in executors.items() if "/train@" in image} == {Kind.SEARCH, Kind.TRAIN}
    assert {kind_of(label) for label, image in executors.items() if "/control@" in image} == {Kind.CONTROL}
    assert is_mutable("registry:5000/train:0.1.0")
