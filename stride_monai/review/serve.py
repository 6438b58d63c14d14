"""Running the page: on this machine alone, unless there are users."""

from __future__ import annotations

import ipaddress
import socket

from fastapi import FastAPI

from stride_monai.errors import ConfigError

__all__ = ["check_host", "free_socket", "serve"]

_WAITING = 100


def check_host(host: str, users: bool) -> None:
    """Refuse an address that others can reach, where everybody who reaches it could write.

    Raises:
        ConfigError: it is not this machine's own (127.0.0.1, ::1, localhost) and there are no users.
    """
    if users or host == "localhost":
        return
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise ConfigError(
            f"--host {host} can be reached from other machines, and nobody would have to sign in",
            "give --users FILE (stride-monai annotations users), or leave --host out",
        )


def free_socket(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes any that is free.

    Raises:
        ConfigError: the address is not this machine's, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(_WAITING)  # who calls from now on waits until the server answers, and is not refused
    except (OSError, OverflowError) as error:
        listening.close()
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot listen on {host} port {port} ({why})", "choose another --port") from error
    return listening


def serve(app: FastAPI, listening: socket.socket) -> None:
    """Answer requests until the process is told to stop."""
    import uvicorn

    # Proxies are believed only where they stand on this machine: X-Forwarded-Proto then makes the cookie a secure one.
    config = uvicorn.Config(app, log_level="warning", server_header=False, date_header=False, access_log=False)
    uvicorn.Server(config).run(sockets=[listening])
