"""Taking the REST port."""

import socket

from components.errors import EndpointUnavailable

BACKLOG = 2048


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


def _unusable(host: str, port: int, flag: str, error: OSError) -> EndpointUnavailable:
    return EndpointUnavailable(f"cannot listen on {host}:{port} ({error.strerror}); give another --host or {flag}")
