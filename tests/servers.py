"""Real servers on loopback that tests start, kill and start again over the same data."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import boto3
import requests
from botocore.client import BaseClient
from botocore.exceptions import BotoCoreError, ClientError


class Server(ABC):
    """A server process of a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """Give the command line; the same each time, ports included."""

    @abstractmethod
    def answers(self) -> bool:
        """Tell whether the server can be used."""

    def start(self) -> None:
        """Start the server and wait until it answers."""
        with (self.folder / "log.txt").open("wb") as log:
            quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, cwd=self.folder, env=os.environ | quiet, start_new_session=True
            )
        deadline = time.monotonic() + 120
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"no server: {(self.folder / 'log.txt').read_text()}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Kill the server and the workers of its session."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class S3Server(Server):
    """SeaweedFS, which speaks S3, with its keys."""

    access_key, secret_key = "mscflow", "mscflow-secret"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        parts = [
            f"{part}.port{kind}" for part in ("s3", "master", "volume", "filer", "admin") for kind in ("", ".grpc")
        ]
        self._ports = dict(zip(parts, free_ports(len(parts)), strict=True))
        self.endpoint = f"http://127.0.0.1:{self._ports['s3.port']}"
        keys = {"credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}]}
        identities = {"identities": [{"name": "tests", "actions": ["Admin"], **keys}]}
        (folder / "config.json").write_text(json.dumps(identities))

    def command(self) -> list[str]:
        """Give the command line."""
        options = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-admin.ui=false"]
        options += ["-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        options += [f"-s3.config={self.folder / 'config.json'}", f"-dir={self.folder}"]
        options += [f"-{part}={port}" for part, port in self._ports.items()]
        return [str(Path(sys.executable).with_name("weed")), "mini", *options]

    def answers(self) -> bool:
        """Tell whether an object can be kept; a bucket can be made before there is a volume to write to."""
        try:
            self._client().put_object(Bucket=self.make_bucket().removeprefix("s3://"), Key="key", Body=b"content")
        except (BotoCoreError, ClientError):
            return False
        return True

    def environment(self) -> dict[str, str]:
        """Give the variables that point AWS clients here, and nowhere else."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_bucket(self) -> str:
        """Make an empty bucket and give its URI."""
        name = f"bucket-{uuid4().hex}"
        self._client().create_bucket(Bucket=name)
        return f"s3://{name}"

    def _client(self) -> BaseClient:
        keys = {"aws_access_key_id": self.access_key, "aws_secret_access_key": self.secret_key}
        return boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1", **keys)


class MlflowServer(Server):
    """An MLflow server on sqlite that passes artifacts on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (self._port,) = free_ports(1)
        self.uri = f"http://127.0.0.1:{self._port}"

    def command(self) -> list[str]:
        """Give the command line."""
        places = ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        places += ["--artifacts-destination", f"{self.folder}/artifacts"]
        options = ["--workers", "1", "--host", "127.0.0.1", "--port", str(self._port)]
        return [sys.executable, "-m", "mlflow", "server", *options, *places]

    def answers(self) -> bool:
        """Tell whether the server calls itself healthy."""
        try:
            return requests.get(f"{self.uri}/health", timeout=2).ok
        except requests.RequestException:
            return False


def free_ports(count: int) -> list[int]:
    """Give ports of loopback that nobody uses."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
