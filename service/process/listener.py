"""The socket at which a service listens."""

from __future__ import annotations

import socket
import sys

from models.errors import DataError

__all__ = ["listen"]


def listen(host: str, port: int) -> socket.socket:
    """A bound socket.

    Raises
    ------
    DataError
        When the address is none of this machine, or the port is taken.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise DataError(f"The address {host} cannot be used ({error}).", "Choose another with --host.") from error
    if sys.platform != "win32":  # on Windows this option would let two services share a port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(where)
    except OSError as error:
        listener.close()
        raise DataError(
            f"Port {port} at {host} cannot be used ({error.strerror}); one program listens at a port.",
            "Stop the other program, or choose another port with --port (0 takes a free one).",
        ) from error
    return listener
