"""What a cluster would do for an InferenceService: writes its status, runs its servers, splits its requests.

The servers are real processes of ``python -m serving --release``; what stands for the cluster is who starts them, the
proxy before them, and the status, which is that of KServe's controller.
"""

import http.client
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from components.deployment.manifest import release_of
from components.endpoint.files import read_status

GROUP = "/apis/serving.kserve.io/v1beta1/namespaces"


class Servers:
    """Endpoint processes, one a release; those that never get ready run all the same."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, tuple[Path, subprocess.Popen[bytes]]] = {}

    def port(self, release: str) -> int | None:
        """Give the port of a release's server, started if it does not run; None while it starts."""
        if release not in self._running:
            folder = self._folder / str(len(self._running))
            folder.mkdir(parents=True)
            command = [sys.executable, "-m", "serving", "--release", release, "--folder", str(folder)]
            options = ["--port", "0", "--grpc-port", "0", "--log", str(folder / "log")]
            self._running[release] = folder, subprocess.Popen([*command, *options])
        folder, process = self._running[release]
        status = read_status(folder)
        return status.port if status is not None and status.pid == process.pid else None

    def ready(self, release: str) -> bool:
        """Whether the readiness probe of a release's server succeeds."""
        port = self.port(release)
        with suppress(httpx.HTTPError):
            return port is not None and httpx.get(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5).is_success
        return False

    def stop(self) -> None:
        """Kill them."""
        for _, process in self._running.values():
            process.kill()
            process.wait()


@dataclass
class Behaviour:
    """How the cluster behaves.

    Attributes:
        knative: Whether KServe runs in that mode.
        crash: Releases whose container ends as it starts.
        silent: Whether the controller writes nothing, as where none runs.
        whole: Whether it gives each newest revision all requests, whatever share was asked for, and says otherwise.
        broken: Releases that answer 500 where they are asked by users.
        slow: Seconds that a release's answers are held back.
        roll: Looks that the pods of a Deployment take to be replaced.
    """

    knative: bool = True
    crash: set[str] = field(default_factory=set)
    silent: bool = False
    whole: bool = False
    broken: set[str] = field(default_factory=set)
    slow: dict[str, float] = field(default_factory=dict)
    roll: int = 3


class Controller:
    """KServe's controller for one namespace, with the cluster's network."""

    def __init__(self, api: httpx.Client, namespace: str, servers: Servers, behaviour: Behaviour) -> None:
        self._api, self._at, self._servers, self.behaviour = (
            api,
            f"{GROUP}/{namespace}/inferenceservices",
            servers,
            behaviour,
        )
        self._services: dict[str, _Service] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.seen: list[tuple[str, str | None, int | None]] = []
        self.before_each: Callable[[dict[str, Any]], None] = lambda found: None

    def __enter__(self) -> "Controller":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        for name, service in self._services.items():
            self._api.delete(f"{self._at}/{name}")
            service.close()
        self._api.close()

    def share(self, name: str = "mscflow") -> dict[str, int]:
        """Give the releases that get requests, with their percent."""
        return {release: percent for release, percent in self._services[name].shares if percent}

    def _run(self) -> None:
        while not self._ended.wait(0.05):
            found = {each["metadata"]["name"]: each for each in self._api.get(self._at).json()["items"]}
            here = {name: each["metadata"]["uid"] for name, each in found.items()}
            for name in [name for name, service in self._services.items() if here.get(name) != service.uid]:
                self._services.pop(name).close()
            for name, each in found.items():
                self._reconcile(name, each)

    def _reconcile(self, name: str, found: dict[str, Any]) -> None:
        if name not in self._services:
            self._services[name] = _Service(found["metadata"]["uid"], self._servers, self.behaviour)
        service = self._services[name]
        percent = found["spec"]["predictor"].get("canaryTrafficPercent")
        step = (name, release_of(found), percent)
        if step not in self.seen[-1:]:
            self.seen.append(step)
        self.before_each(found)
        status = service.reconcile(release_of(found) or "", percent, found["metadata"]["generation"])
        if status != service.told and not self.behaviour.silent:
            service.told = status
            headers = {"Content-Type": "application/merge-patch+json"}
            self._api.patch(f"{self._at}/{name}/status", json={"status": status}, headers=headers)


class _Service:
    """One InferenceService: its revisions, and the proxy before them."""

    def __init__(self, uid: str, servers: Servers, behaviour: Behaviour) -> None:
        self.uid, self._servers, self._behaviour = uid, servers, behaviour
        self._revisions: list[str] = []  # the release of each
        self._ready = self._rolled_out = -1
        self._looks = 0
        self.shares: list[tuple[str, int]] = []
        self.told: dict[str, Any] = {}
        self._asked = 0
        self._proxy = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._proxy.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._proxy.shutdown()
        self._proxy.server_close()

    def pick(self) -> str | None:
        """Give the release that answers the next request: shares come evenly, not by chance."""
        self._asked += 1
        place = self._asked * 37 % 100
        for release, percent in self.shares:
            if place < percent:
                return release
            place -= percent
        return None

    def answer(self, release: str, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        if release in self._behaviour.broken:
            return 500, b'{"error": "a pod of this release fails"}'
        time.sleep(self._behaviour.slow.get(release, 0))
        connection = http.client.HTTPConnection("127.0.0.1", self._servers.port(release), timeout=30)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def reconcile(self, release: str, percent: int | None, generation: int) -> dict[str, Any]:
        if not self._revisions or self._revisions[-1] != release:
            self._revisions.append(release)
            self._looks = 0
        crashed = release in self._behaviour.crash
        newest_ready = not crashed and self._servers.ready(release)
        self._looks += newest_ready
        if self._behaviour.knative:
            return self._as_knative(percent, newest_ready, crashed, generation)
        return self._as_deployment(release, newest_ready, crashed, generation)

    def _as_knative(self, percent: int | None, ready: bool, crashed: bool, generation: int) -> dict[str, Any]:
        newest = len(self._revisions) - 1
        self._ready = newest if ready else self._ready
        share = 100 if percent is None or self._rolled_out < 0 else percent
        if share == 100 and self._ready == newest:
            self._rolled_out = newest
        real = 100 if self._behaviour.whole else share
        others = [(self._revisions[self._rolled_out], 100 - real)] if self._rolled_out >= 0 else []
        own = [(self._revisions[self._ready], real)] if self._ready >= 0 else []
        self.shares = own + others
        traffic = [{"latestRevision": True, "percent": share, "revisionName": f"r{self._ready}"}]
        if share < 100:
            traffic.append({"latestRevision": False, "percent": 100 - share, "revisionName": f"r{self._rolled_out}"})
        predictor: dict[str, Any] = {
            "latestCreatedRevision": f"r{newest}",
            "traffic": traffic if self._ready >= 0 else [],
        }
        if self._ready >= 0:
            predictor["latestReadyRevision"] = f"r{self._ready}"
        if self._rolled_out >= 0:
            predictor["latestRolledoutRevision"] = f"r{self._rolled_out}"
        return {"components": {"predictor": predictor}, **self._told("Knative", ready, crashed, generation)}

    def _as_deployment(self, release: str, ready: bool, crashed: bool, generation: int) -> dict[str, Any]:
        replaced = ready and self._looks > self._behaviour.roll
        if replaced or (ready and not self.shares):
            self.shares = [(release, 100)]
        elif ready and self.shares[0][0] != release:
            self.shares = [(release, 50), (self.shares[0][0], 50)]
        # A Deployment with no pod missing counts as ready, also while its pods are replaced.
        return self._told("Standard", bool(self.shares), crashed, generation)

    def _told(self, mode: str, ready: bool, crashed: bool, generation: int) -> dict[str, Any]:
        state = {"status": "True"} if ready else {"status": "False", "reason": "PredictorNotReady"}
        condition = {"type": "Ready", "lastTransitionTime": "2026-01-01T00:00:00Z", **state}
        url = f"http://127.0.0.1:{self._proxy.server_address[1]}"
        failure = {"reason": "ModelLoadFailed", "exitCode": 1, "message": "its digest is another"}
        model = {
            "copies": {"failedCopies": int(crashed), "totalCopies": 1},
            "states": {"activeModelState": "", "targetModelState": "FailedToLoad" if crashed else "Loaded"},
            "transitionStatus": "BlockedByFailedLoad" if crashed else "UpToDate",
            "lastFailureInfo": failure if crashed else None,
        }
        return {
            "deploymentMode": mode,
            "observedGeneration": generation,
            "conditions": [condition],
            "modelStatus": model,
            "url": url,
            "address": {"url": url},
        }


def _handler(service: _Service) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {"Content-Type": self.headers.get("content-type", "application/json")}
            release = service.pick()
            code, content = (
                (503, b"{}") if release is None else service.answer(release, self.command, self.path, body, headers)
            )
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _pass_on  # noqa: N815  named by http.server

        def log_message(self, *args: object) -> None:
            return

    return Handler
