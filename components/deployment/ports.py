"""Whether the endpoint can have its ports, and who has them if not."""

import errno
import socket
from pathlib import Path

from components.deployment import process
from components.endpoint.files import read_status
from components.errors import EndpointUnavailable
from components.settings import ServingSettings


def check_ports(settings: ServingSettings, endpoint: Path) -> None:
    """Check that the endpoint can be started, or runs already where the settings want it.

    Args:
        settings: Where it shall listen.
        endpoint: The endpoint's folder.

    Raises:
        EndpointUnavailable: naming the port and the setting that chooses another.
    """
    status = read_status(endpoint) if process.find(endpoint) else None
    for setting in ("port", "grpc_port"):
        wanted = getattr(settings, setting)
        if wanted == 0:
            continue
        if status is None:
            check_free(settings.host, wanted, setting)
        elif wanted != getattr(status, setting):
            raise EndpointUnavailable(
                f"the endpoint of {endpoint} runs on port {getattr(status, setting)}, not {wanted}; "
                f"stop it with 'mscflow serve --stop', or leave {_flag(setting)} as it was"
            )


def check_free(host: str, port: int, setting: str = "port") -> None:
    """Check that a port can be listened on.

    Raises:
        EndpointUnavailable: naming the port and the setting that chooses another.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the server does, so that connections which linger from its predecessor do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        why = f"is taken by {_holder(host, port)}" if error.errno == errno.EADDRINUSE else f"fails: {error.strerror}"
        raise EndpointUnavailable(
            f"port {port} on {host} {why}; give another with {_flag(setting)} or MSCFLOW_SERVING__{setting.upper()}"
        ) from error


def _holder(host: str, port: int) -> str:
    """Ask what listens on a port whether it is one of ours."""
    import httpx

    try:
        name = httpx.get(f"http://{host}:{port}/v2", timeout=1.0, trust_env=False).json().get("name")
    except (httpx.HTTPError, ValueError, AttributeError):
        return "another program"
    return "the mscflow endpoint of another home" if name == "mscflow" else "another program"


def _flag(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"
