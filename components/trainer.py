"""Where a training runs: in the step itself, or in pods of its own that Kubeflow Trainer starts."""

from typing import Annotated, Literal

from pydantic import Field

from components.cluster import ClusterSettings, LearningSettings, Name, Quantity, Seconds


class TrainerSettings(LearningSettings):
    """Where a training runs; what a TrainJob's pods get, and where they may run, is said for each of them."""

    launcher: Literal["local", "trainjob"] = Field(
        "local", description="local: in the step, under torchrun above one process; trainjob: in pods of its own"
    )
    workers: int = Field(1, ge=1, le=1000, description="pods that train together, each with so many GPUs")
    runtime: Name = Field("torch-distributed", description="training runtime that the TrainJob names")
    runtime_kind: Literal["ClusterTrainingRuntime", "TrainingRuntime"] = Field(
        "ClusterTrainingRuntime", description="whether it is the cluster's or the namespace's own"
    )
    image: str = Field("", description="image of the pods; default: that of the train step")
    retries: int = Field(2, ge=0, description="TrainJobs that may follow one that failed, from its last checkpoint")
    start_timeout: Seconds = Field(3600, description="seconds that its pods may wait for a place")
    interval: Annotated[float, Field(gt=0)] = Field(5.0, description="seconds between two looks at the TrainJob")


class Launching(TrainerSettings):
    """What the train step is told of its launcher: the section ``trainer``, and what ``cluster`` says of every pod."""

    namespace: Name = ClusterSettings().namespace
    config_map: Name = ClusterSettings().config_map
    storage_secret: Name = ClusterSettings().storage_secret
    tracking_secret: Name = ClusterSettings().tracking_secret
    gpu_type: str = ClusterSettings().gpu_type
    shared_memory: Quantity = ClusterSettings().shared_memory
    temporary: Quantity = ClusterSettings().temporary
    train_timeout: Seconds = ClusterSettings().train_timeout
    backoff: Seconds = ClusterSettings().backoff
