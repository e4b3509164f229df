"""A pipeline as a cluster runs it: in an exit handler that tells how the run ended, with parameters for resources."""

import inspect
from collections.abc import Mapping
from typing import Any

from components.cluster import ClusterSettings
from pipelines.cluster.parameters import cluster_arguments

# Of the pipelines' own parameters, those that the end of a run is told: a batch that failed is due again.
_TOLD = ("store", "lineage", "owner")


def with_end(pipeline: Any, cluster: ClusterSettings) -> Any:
    """Make a pipeline of the same steps, with the same parameters and those of ``cluster_arguments``.

    Args:
        pipeline: As ``dsl.pipeline`` made it; it stays as it is.
        cluster: Whose values are the defaults of what is added.
    """
    from kfp import dsl

    from components.ending.component import end

    own = inspect.signature(pipeline.pipeline_func).parameters

    def steps(*channels: Any) -> None:
        given = dict(zip(own, channels, strict=False))  # what follows is used by name, in the compiled pipeline
        told = {name: given[name] for name in _TOLD} if "owner" in given else {}
        ended = end(**told)
        ended.set_caching_options(False)
        with dsl.ExitHandler(ended):
            pipeline.pipeline_func(**given)

    steps.__signature__ = _signature(own, cluster)  # type: ignore[attr-defined]
    return dsl.pipeline(name=pipeline.name, description=pipeline.description)(steps)


def _signature(own: Mapping[str, inspect.Parameter], cluster: ClusterSettings) -> inspect.Signature:
    more = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=value, annotation=type(value))
        for name, value in cluster_arguments(cluster).items()
    ]
    # A parameter with a default may not stand before one without.
    required = [parameter for parameter in own.values() if parameter.default is parameter.empty]
    if len(required) < len(own):
        raise TypeError("a pipeline's own parameters have no defaults, as those of the cluster follow them")
    return inspect.Signature([*own.values(), *more])
