"""What Kubeflow Pipelines keeps, and what becomes of it by each of its operations; a test says how runs go."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import yaml

Json = dict[str, Any]
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
NOT_YET = "1970-01-01T00:00:00Z"  # what the real one says of a time that has not come


class Refusal(Exception):
    """What is answered with an error; its codes are gRPC's."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.body = status, {"code": code, "message": message, "details": []}


def moment(seconds: float) -> str:
    """Write a time, so many seconds from the beginning."""
    return (BEGIN + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def task(name: str, state: str, begin: float = 0, end: float | None = None, error: str = "") -> Json:
    """Describe a task of a run."""
    times = {"create_time": moment(begin), "start_time": moment(begin)}
    times["end_time"] = NOT_YET if end is None else moment(end)
    told = {"task_id": f"{name} at {begin}", "display_name": name, "state": state, **times}
    return told | ({"error": {"code": 13, "message": error}} if error else {})


class Keeping:
    """Experiments, pipelines, their versions, runs and recurring runs; a method an operation of the description.

    Attributes:
        kept: Things by kind and id.
        becomes: Gives how a run looks when it is looked at for the n-th time: fields of the run, and ``tasks``.
        on_look: Called then.
        multi_user: Whether there are namespaces.
    """

    def __init__(self) -> None:
        kinds = ("experiments", "pipelines", "versions", "runs", "recurring")
        self.kept: dict[str, dict[str, Json]] = {kind: {} for kind in kinds}
        self.becomes: Callable[[Json, int], Json] = lambda _run, _look: {"state": "SUCCEEDED"}
        self.on_look: Callable[[int], None] = lambda _look: None
        self.multi_user = False
        self._looks: dict[str, int] = {}

    def do(self, name: str, given: Json, body: Any) -> Json:
        """Do an operation, with its parameters from path and query, and its body."""
        answer: Json = getattr(self, f"_{name}")(given, body)
        return answer

    def _healthz_service_get_healthz(self, _given: Json, _body: Json) -> Json:
        return {"multi_user": self.multi_user, "pipeline_store": "database"}

    def _experiment_service_list_experiments(self, given: Json, _body: Json) -> Json:
        self._needs_namespace(given)
        return self._page("experiments", "experiments", given, lambda _each: True)

    def _experiment_service_create_experiment(self, _given: Json, body: Json) -> Json:
        self._needs_namespace(body)
        self._once("experiments", "display_name", body)
        return self._keep("experiments", "experiment_id", {**body, "storage_state": "AVAILABLE"})

    def _pipeline_service_get_pipeline_by_name(self, given: Json, _body: Json) -> Json:
        for pipeline in self.kept["pipelines"].values():
            if pipeline["name"] == given["name"]:
                return pipeline
        raise Refusal(404, 5, f"pipeline {given['name']} not found")

    def _pipeline_service_create_pipeline(self, _given: Json, body: Json) -> Json:
        self._once("pipelines", "name", body)
        return self._keep("pipelines", "pipeline_id", body)

    def _pipeline_service_list_pipeline_versions(self, given: Json, _body: Json) -> Json:
        mine = given["pipeline_id"]
        return self._page("versions", "pipeline_versions", given, lambda each: each["pipeline_id"] == mine)

    def _pipeline_service_get_pipeline_version(self, given: Json, _body: Json) -> Json:
        return self._get("versions", given["pipeline_version_id"])

    def _upload_pipeline(self, given: Json, body: dict[str, bytes]) -> Json:
        self._once("pipelines", "name", given)
        pipeline = self._keep("pipelines", "pipeline_id", {"name": given["name"], "display_name": given["name"]})
        self._upload_pipeline_version({"name": given["name"], "pipelineid": pipeline["pipeline_id"]}, body)
        return pipeline

    def _upload_pipeline_version(self, given: Json, body: dict[str, bytes]) -> Json:
        self._get("pipelines", given["pipelineid"])
        self._once("versions", "name", given)
        spec, *platform = yaml.load_all(body["uploadfile"], yaml.CSafeLoader)
        whole = {"pipeline_spec": spec, "platform_spec": platform[0]} if platform else spec
        told = {"name": given["name"], "display_name": given["name"], "description": given.get("description", "")}
        made = {**told, "pipeline_id": given["pipelineid"], "pipeline_spec": whole}
        return self._keep("versions", "pipeline_version_id", made)

    def _run_service_list_runs(self, given: Json, _body: Json) -> Json:
        mine = given["experiment_id"]
        return self._page("runs", "runs", given, lambda each: each["experiment_id"] == mine)

    def _run_service_create_run(self, _given: Json, body: Json) -> Json:
        self._get("experiments", body["experiment_id"])
        self._made_of(body)
        return self._keep("runs", "run_id", {**body, "state": "PENDING", "created_at": moment(0)})

    def _run_service_get_run(self, given: Json, _body: Json) -> Json:
        run = self._get("runs", given["run_id"])
        look = self._looks[run["run_id"]] = self._looks.get(run["run_id"], 0) + 1
        self.on_look(look)
        told = {"state": "CANCELED"} if run["state"] == "CANCELING" else dict(self.becomes(run, look))
        tasks = [{**each, "run_id": run["run_id"]} for each in told.pop("tasks", [])]
        run.update(told, finished_at=NOT_YET)
        if run["state"] in {"SUCCEEDED", "FAILED", "CANCELED"}:
            run["finished_at"] = moment(100)
        return {**run, "run_details": {"task_details": tasks}}

    def _run_service_terminate_run(self, given: Json, _body: Json) -> Json:
        self._get("runs", given["run_id"])["state"] = "CANCELING"
        return {}

    def _recurring_run_service_list_recurring_runs(self, given: Json, _body: Json) -> Json:
        mine = given["experiment_id"]
        return self._page("recurring", "recurringRuns", given, lambda each: each["experiment_id"] == mine)

    def _recurring_run_service_create_recurring_run(self, _given: Json, body: Json) -> Json:
        self._made_of(body)
        status = "DISABLED" if body.get("mode") == "DISABLE" else "ENABLED"
        return self._keep("recurring", "recurring_run_id", {**body, "status": status, "created_at": moment(0)})

    def _recurring_run_service_delete_recurring_run(self, given: Json, _body: Json) -> Json:
        self._get("recurring", given["recurring_run_id"])
        del self.kept["recurring"][given["recurring_run_id"]]
        return {}

    def _recurring_run_service_enable_recurring_run(self, given: Json, _body: Json) -> Json:
        self._get("recurring", given["recurring_run_id"]).update(status="ENABLED", mode="ENABLE")
        return {}

    def _recurring_run_service_disable_recurring_run(self, given: Json, _body: Json) -> Json:
        self._get("recurring", given["recurring_run_id"]).update(status="DISABLED", mode="DISABLE")
        return {}

    def _needs_namespace(self, given: Json) -> None:
        if self.multi_user != bool(given.get("namespace")):
            raise Refusal(400, 3, "a namespace is needed where there are several users, and nowhere else")

    def _made_of(self, body: Json) -> None:
        version = self._get("versions", body["pipeline_version_reference"]["pipeline_version_id"])
        spec = version["pipeline_spec"].get("pipeline_spec", version["pipeline_spec"])
        inputs = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        missing = {name for name, each in inputs.items() if "defaultValue" not in each}
        missing -= set(body["runtime_config"]["parameters"])
        if missing:
            raise Refusal(400, 3, f"no value for {sorted(missing)}")

    def _get(self, kind: str, identity: str) -> Json:
        if identity not in self.kept[kind]:
            raise Refusal(404, 5, f"{kind} {identity} not found")
        return self.kept[kind][identity]

    def _once(self, kind: str, key: str, body: Json) -> None:
        if any(each[key] == body[key] for each in self.kept[kind].values()):
            raise Refusal(409, 6, f"{kind} {body[key]} already exists")

    def _keep(self, kind: str, key: str, body: Json) -> Json:
        identity = str(uuid4())
        self.kept[kind][identity] = {**body, key: identity}
        return self.kept[kind][identity]

    def _page(self, kind: str, items: str, given: Json, mine: Callable[[Json], bool]) -> Json:
        """Give a page of at most two, so that every list of three has a second page."""
        predicates = json.loads(given.get("filter", "{}")).get("predicates", [])
        equal = {each["key"]: each["string_value"] for each in predicates}
        found = [
            each
            for each in self.kept[kind].values()
            if mine(each) and all(each.get(key) == value for key, value in equal.items())
        ]
        begin = int(given.get("page_token") or 0)
        more = {"next_page_token": str(begin + 2)} if begin + 2 < len(found) else {}
        return {items: found[begin : begin + 2], "total_size": len(found), **more}
