"""How the pipelines' steps run on a cluster: what each of them gets, where it may run, and how often it is tried."""

from typing import Annotated, Any

from pydantic import Field

from components.section import Section

# As Kubernetes writes an amount: 500m, 2, 16Gi.
Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
Seconds = Annotated[int, Field(ge=1)]


class StepSettings(Section):
    """What the steps of one kind get, and where they may run; each is a parameter of the compiled pipelines."""

    cpu: Quantity = Field("1", description="cores, or thousandths of one: 500m")
    memory: Quantity = Field("4Gi", description="bytes, such as 4Gi")
    gpus: int = Field(0, ge=0, description="GPUs of the pod")
    nodes: dict[str, str] = Field({}, description="labels of the nodes that they may run on")
    tolerations: tuple[dict[str, Any], ...] = Field((), description="of taints, as Kubernetes writes them")


class LearningSettings(StepSettings):
    """The same of the steps that fit networks."""

    cpu: Quantity = Field("4", description="cores")
    memory: Quantity = Field("16Gi", description="bytes")


class ClusterSettings(Section):
    """Where and how compiled pipelines run on Kubeflow."""

    namespace: Name = Field("mscflow", description="of the runs")
    service_account: Name = Field("mscflow-pipeline", description="of the steps' pods")
    config_map: Name = Field("mscflow", description="that names the store and the tracking server")
    storage_secret: Name = Field("mscflow-s3", description="with the object store's credentials; it may be absent")
    tracking_secret: Name = Field("mscflow-mlflow", description="with those of the tracking server; it may be absent")
    search_secret: Name = Field("mscflow-search", description="with the database of searches; it may be absent")
    control: StepSettings = StepSettings()
    search: LearningSettings = LearningSettings()
    train: LearningSettings = LearningSettings()
    gpu_type: str = Field("nvidia.com/gpu", min_length=1, description="resource that a GPU is asked for by")
    shared_memory: Quantity = Field("2Gi", description="most of /dev/shm in the pods that search and train")
    temporary: Quantity = Field("20Gi", description="most of /tmp, the one place where a step may write")
    retries: int = Field(2, ge=0, description="times that a failed step is tried again")
    backoff: Seconds = Field(30, description="seconds before the first of them; each next waits twice as long")
    step_timeout: Seconds = Field(7_200, description="seconds that any other step may take")
    train_timeout: Seconds = Field(172_800, description="seconds that a search, a training or a fold may take")
    lease: float = Field(
        604_800.0, ge=60, description="seconds after which the batch of a run that ended unseen is taken over"
    )
    parallel: int = Field(4, ge=1, description="folds of a study that run at once")
