"""Where a released model is served: by a process of this machine, or by an InferenceService of a cluster."""

from typing import Annotated, Literal, Self

from pydantic import Field

from components.cluster import ClusterSettings, Name, Quantity
from components.images import PREDICT
from components.section import Section

Percent = Annotated[int, Field(ge=1, le=99)]


class RolloutSettings(Section):
    """Where a model is rolled out to; all but the target is of the InferenceService, and how a new release is tried."""

    target: Literal["local", "kserve"] = Field(
        "local", description="local: a server process of the home; kserve: an InferenceService"
    )
    service: Name = Field("mscflow", description="name of the InferenceService")
    mode: Literal["auto", "knative", "standard"] = Field(
        "auto", description="how the cluster runs InferenceServices; auto: it is asked"
    )
    image: str = Field(PREDICT, min_length=1, description="image of the predictor")
    predictor_account: Name = Field("mscflow-predictor", description="service account of its pods")
    token_secret: Name | None = Field(
        None, description="secret whose key 'tokens' holds bearer tokens, of which a request must bring one"
    )
    cpu: Quantity = Field("2", description="cores of a predictor's pod")
    memory: Quantity = Field("2Gi", description="bytes of a predictor's pod")
    temporary: Quantity = Field("4Gi", description="most of /tmp, where a pod keeps the models that it fetched")
    min_replicas: int = Field(2, ge=1, description="pods that always run")
    max_replicas: int = Field(6, ge=1, description="most pods")
    concurrency: int = Field(8, ge=1, description="knative: requests in flight at a pod above which one is added")
    cpu_percent: int = Field(70, ge=1, le=100, description="standard: use of the cores above which a pod is added")
    payload_url: str = Field("", description="where KServe sends a copy of each request and answer; default: nowhere")
    canary: tuple[Percent, ...] = Field(
        (10, 50), description="percent of the requests that a new release is tried on, step by step; none: not tried"
    )
    samples: int = Field(40, ge=1, description="answers of a new release that each step asks for")
    hold: float = Field(30.0, ge=0, description="seconds that a step lasts at least")
    max_errors: float = Field(0.01, ge=0, lt=1, description="share of a step's requests that may fail")
    max_latency: float = Field(
        2.0, gt=0, description="seconds that 95 of 100 answers of a new release must come within"
    )
    max_slowdown: float = Field(
        3.0, gt=0, description="times what served before, asked in turn with it; 0.25 s are always allowed"
    )
    timeout: float = Field(600.0, gt=0, description="seconds that a release may take to get ready, or a step to end")
    interval: float = Field(2.0, gt=0, description="seconds between two looks at the InferenceService")
    address: Literal["inside", "outside"] = Field(
        "inside", description="which of its two addresses is asked: the cluster's own, or the one from outside"
    )


class Rolling(RolloutSettings):
    """What the deploy step is told: the section ``rollout``, and what ``cluster`` says of every pod."""

    namespace: Name = ClusterSettings().namespace
    config_map: Name = ClusterSettings().config_map
    storage_secret: Name = ClusterSettings().storage_secret

    @classmethod
    def of(cls, rollout: RolloutSettings, cluster: ClusterSettings) -> Self:
        """Put the two sections together; where the target is this machine, what is said of clusters does not matter."""
        if rollout.target == "local":
            return cls()
        shared = cluster.model_dump(include=set(cls.model_fields) - set(RolloutSettings.model_fields))
        return cls(**rollout.model_dump(), **shared)
