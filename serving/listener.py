"""Taking the REST port, and room for the connections to come."""

import resource
import socket

from components.errors import EndpointUnavailable

BACKLOG = 2048
# Connections to REST and gRPC, and some for models and logs.
FILES = 8192


def bind(host: str, port: int, flag: str) -> socket.socket:
    """Take a port, before anything slow is done; connections wait until the server accepts them.

    Raises:
        EndpointUnavailable: if the port is taken, or the host is none of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _unusable(host, port, flag, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _unusable(host, port, flag, error) from error
    return listener


def raise_file_limit() -> None:
    """Let the process open more files than the 1024 of a common shell, as each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _unusable(host: str, port: int, flag: str, error: OSError) -> EndpointUnavailable:
    return EndpointUnavailable(f"cannot listen on {host}:{port} ({error.strerror}); give another --host or {flag}")
