"""What Kubernetes is told of each step's pod, beyond its image and resources."""

from typing import Any

from components.cluster import ClusterSettings
from components.patience import RUN_VARIABLE
from pipelines.cluster.parameters import Kind, placing_of

# What the namespace's config map and secrets hold, under the names by which the steps read it.
PLACES = ("MSCFLOW_STORE", "MSCFLOW_TRACKING_URI")
STORAGE = ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
STORAGE_LOGIN = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
TRACKING_LOGIN = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
SEARCH_LOGIN = ("MSCFLOW_SEARCH__STORAGE",)
# Argo labels every pod of a run with the run's id.
RUN_LABEL = "metadata.labels['pipeline/runid']"
USER, GROUP = 10001, 0


def pod(kind: Kind, cluster: ClusterSettings) -> Any:
    """Make the ``KubernetesExecutorConfig`` of a step."""
    from kfp.kubernetes import kubernetes_executor_config_pb2 as pb

    config = pb.KubernetesExecutorConfig()
    _add(config.config_map_as_env.add(), "config_map", cluster.config_map, PLACES, optional=False)
    _add(config.config_map_as_env.add(), "config_map", cluster.config_map, STORAGE, optional=True)
    # A cloud's workload identity, and a tracking server behind a network policy, need neither.
    logins: dict[str, tuple[str, ...]] = {
        cluster.storage_secret: STORAGE_LOGIN,
        cluster.tracking_secret: TRACKING_LOGIN,
    }
    if kind.learns:
        logins[cluster.search_secret] = SEARCH_LOGIN
    for secret, keys in logins.items():
        _add(config.secret_as_env.add(), "secret", secret, keys, optional=True)
    config.field_path_as_env.add(name=RUN_VARIABLE, field_path=RUN_LABEL)
    config.empty_dir_mounts.add(volume_name="temporary", mount_path="/tmp", size_limit=cluster.temporary)  # noqa: S108
    if kind.learns:
        shared = {"volume_name": "shared-memory", "mount_path": "/dev/shm", "medium": "Memory"}  # noqa: S108
        config.empty_dir_mounts.add(**shared, size_limit=cluster.shared_memory)
    config.active_deadline_seconds = time_of(kind, cluster)
    config.security_context.run_as_user, config.security_context.run_as_group = USER, GROUP
    config.security_context.run_as_non_root = True
    nodes, tolerations = placing_of(kind)
    config.node_selector.node_selector_json.component_input_parameter = nodes
    config.tolerations.add().toleration_json.component_input_parameter = tolerations
    return config


def time_of(kind: Kind, cluster: ClusterSettings) -> int:
    """Give the seconds that one try of a step may take."""
    return cluster.train_timeout if kind.learns else cluster.step_timeout


def _add(entry: Any, what: str, name: str, keys: tuple[str, ...], *, optional: bool) -> None:
    setattr(entry, f"{what}_name", name)  # for KFP older than the parameter beside it
    getattr(entry, f"{what}_name_parameter").runtime_value.constant.string_value = name
    entry.optional = optional
    for key in keys:
        entry.key_to_env.add(**{f"{what}_key": key, "env_var": key})
