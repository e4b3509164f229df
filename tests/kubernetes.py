"""Two Kubernetes servers for tests: a small cluster that runs pods, and one that validates custom resources."""

import json
import ssl
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import yaml

from tests.containers import call, tool


@dataclass(frozen=True)
class SmallCluster:
    """A cluster of one node; no DNS in it, no ingress, none of KServe's or Trainer's kinds.

    Attributes:
        environment: Where clients find it (KUBECONFIG, and the engine that runs its pods).
    """

    environment: Mapping[str, str]

    @property
    def kubeconfig(self) -> Path:
        """The file with which clients connect as administrator."""
        return Path(self.environment["KUBECONFIG"])

    def kubectl(self, *arguments: str, given: str | None = None, check: bool = True, timeout: float = 240) -> str:
        """Run ``kubectl ARGUMENTS``; give its output.

        Args:
            arguments: Of the command line.
            given: Standard input.
            check: Whether a failure raises RuntimeError.
            timeout: Seconds.
        """
        program = Path(sys.executable).with_name("kubectl")
        command = [str(program) if program.exists() else "kubectl", *arguments]
        return call(command, self.environment, given=given, check=check, timeout=timeout, merge=not check)

    def apply(self, *manifests: dict[str, Any], namespace: str) -> None:
        """Create or change objects."""
        text = yaml.safe_dump_all(manifests)
        self.kubectl("apply", f"--namespace={namespace}", "--filename=-", given=text)

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        """Read an object."""
        found: dict[str, Any] = json.loads(self.kubectl("get", kind, name, f"--namespace={namespace}", "--output=json"))
        return found

    def load(self, image: str) -> str:
        """Push an image of the engine to the cluster's registry; give its name with digest, for manifests."""
        return call([tool("cluster"), "load", image], self.environment, timeout=300).splitlines()[-1]

    @contextmanager
    def namespace(self) -> Iterator[str]:
        """Make a namespace, which is removed with all that is in it."""
        name = f"mscflow-test-{uuid4().hex[:12]}"
        self.kubectl("create", "namespace", name)
        try:
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false", check=False)


@dataclass(frozen=True)
class CrdServer:
    """An API server for custom resources: it validates and stores them, and no controller acts on them.

    Attributes:
        kubeconfig: The file with which clients connect as administrator; kubectl does not work here.
    """

    kubeconfig: Path

    @property
    def url(self) -> str:
        """Where its REST interface is."""
        server: str = self._config()["clusters"][0]["cluster"]["server"]
        return server

    def client(self) -> httpx.Client:
        """Give a client of the REST interface, with the administrator's certificate."""
        config = self._config()
        user = config["users"][0]["user"]
        context = ssl.create_default_context(cafile=config["clusters"][0]["cluster"]["certificate-authority"])
        context.load_cert_chain(user["client-certificate"], user["client-key"])
        return httpx.Client(base_url=self.url, verify=context, trust_env=False, timeout=60)

    def check(self, *manifests: dict[str, Any]) -> str:
        """Ask for objects to be created without creating them; give what the server said.

        Raises:
            RuntimeError: if it refused one, with its reason.
        """
        text = yaml.safe_dump_all(manifests)
        return call([tool("crd-server"), "check", "-"], given=text, timeout=60, merge=True)

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = yaml.safe_load(self.kubeconfig.read_text())
        return config
