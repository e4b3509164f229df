"""Servers that containers share, each in one of its own on their network: S3, and MLflow on it."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import boto3
import requests
from botocore.exceptions import BotoCoreError, ClientError

from tests.containers import Container, Docker
from tests.servers import S3Server

S3_ALIAS, S3_PORT = "s3", 8333
MLFLOW_ALIAS, MLFLOW_PORT = "mlflow", 5000
_PATIENCE = 120.0


@dataclass(frozen=True)
class S3Service:
    """SeaweedFS in a container.

    Attributes:
        address: Of the container, where this machine reaches it, too.
    """

    container: Container
    address: str

    @property
    def inside(self) -> dict[str, str]:
        """Variables that point AWS clients in the network here.

        By the address, not the name: MLflow's server hands its own address of S3 on to clients, with a signature.
        """
        return _variables(f"http://{self.address}:{S3_PORT}")

    @property
    def outside(self) -> dict[str, str]:
        """Variables that point AWS clients on this machine here, and nowhere else."""
        quiet = {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
        return _variables(f"http://{self.address}:{S3_PORT}") | quiet

    def make_bucket(self, name: str) -> bool:
        """Make a bucket; tell whether it keeps an object."""
        keys = {"aws_access_key_id": S3Server.access_key, "aws_secret_access_key": S3Server.secret_key}
        client = boto3.client("s3", endpoint_url=f"http://{self.address}:{S3_PORT}", region_name="us-east-1", **keys)
        try:
            client.create_bucket(Bucket=name)
            client.put_object(Bucket=name, Key="started", Body=b"")
        except (BotoCoreError, ClientError):
            return False
        return True


def start_s3(docker: Docker, image: str, network: str, folder: Path, bucket: str) -> S3Service:
    """Start S3 in a network, where it is called ``s3``, and make a bucket in it.

    Args:
        docker: The engine; it removes the container at the end.
        image: Any image of Linux; the server is this environment's own program, which needs nothing.
        network: That it joins; in ``bridge``, where the small cluster's pods are, it has its address alone.
        folder: Gets the server's settings.
        bucket: Name.
    """
    weed = Path(sys.executable).with_name("weed")
    keys = {"credentials": [{"accessKey": S3Server.access_key, "secretKey": S3Server.secret_key}]}
    (folder / "s3.json").write_text(json.dumps({"identities": [{"name": "tests", "actions": ["Admin"], **keys}]}))
    command = ["/weed", "mini", "-dir=/tmp", "-ip=127.0.0.1", "-ip.bind=0.0.0.0", f"-s3.port={S3_PORT}"]
    command += ["-s3.config=/s3.json", "-master.telemetry=false", "-admin.ui=false", "-webdav=false"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    mounts = [f"--volume={weed}:/weed:ro", f"--volume={folder / 's3.json'}:/s3.json:ro"]
    alias = None if network == "bridge" else S3_ALIAS
    container = docker.start(image, *command, network=network, alias=alias, options=mounts)
    service = S3Service(container, container.address(network))
    _await(container, lambda: service.make_bucket(bucket))
    return service


def start_mlflow(docker: Docker, image: str, network: str, s3: S3Service, artifacts: str) -> str:
    """Start an MLflow server in a network, where it is called ``mlflow``.

    Args:
        docker: The engine; it removes the container at the end.
        image: The control image.
        network: That it joins.
        s3: Of the same network.
        artifacts: ``s3://`` prefix of the artifacts.

    Returns:
        Its address as this machine sees it.
    """
    command = [
        "mlflow",
        "server",
        "--backend-store-uri",
        "sqlite:////tmp/mlflow.db",
        "--artifacts-destination",
        artifacts,
    ]
    command += ["--host", "0.0.0.0", "--port", str(MLFLOW_PORT), "--workers", "1", "--allowed-hosts", "*"]  # noqa: S104
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    container = docker.start(image, *command, network=network, alias=MLFLOW_ALIAS, environment=s3.inside | quiet)
    uri = f"http://{container.address(network)}:{MLFLOW_PORT}"
    wait_until(container, f"{uri}/health")
    return uri


def wait_until(container: Container, url: str) -> None:
    """Wait until a container's server answers a URL.

    Raises:
        RuntimeError: if it ends, or too much time passes, without it.
    """
    _await(container, lambda: _answers(url))


def _variables(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": S3Server.access_key,
        "AWS_SECRET_ACCESS_KEY": S3Server.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:
        return False


def _await(container: Container, answers: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not answers():
        if container.state() == "exited" or time.monotonic() > deadline:
            raise RuntimeError(f"{container.name} does not answer: {container.logs()[-3000:]}")
        time.sleep(0.2)
