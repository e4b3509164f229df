"""The TrainJobs that a run's train step left: one that is killed at once cannot take its own away."""

import os

from components.apiserver import ApiServer, own_namespace
from components.errors import ClusterError
from components.events import emit
from components.patience import RUN_VARIABLE
from components.training.trainjob import PLURAL, VERSION, of_run


def clear_trainings() -> list[str]:
    """Delete the TrainJobs of this pipeline run in the namespace of this pod; give their names.

    Outside of a pod or a run there are none; where the cluster cannot be asked, or knows no TrainJobs, that is told.
    """
    run, namespace = os.environ.get(RUN_VARIABLE), own_namespace()
    if not run or not namespace:
        return []
    try:
        server = ApiServer(namespace)
        left = [job["metadata"] for job in server.find(PLURAL, VERSION, of_run(run))]
        for each in left:
            server.delete(PLURAL, VERSION, each["name"], each["uid"])
    except ClusterError as error:
        emit("note", message=f"whether the run left a TrainJob is not known: {error}")
        return []
    return [each["name"] for each in left]
