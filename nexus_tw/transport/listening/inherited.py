"""Sockets that systemd (or another program with its protocol, sd_listen_fds(3)) has opened for this process."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any, Final

from twisted.internet.endpoints import AdoptedStreamServerEndpoint
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.python.systemd import ListenFDs

ENVIRONMENT: Final = Path("/proc/self/environ")  # systemd is for Linux only


def inherited(reactor: Any, index: str | None = None, name: str | None = None) -> IStreamServerEndpoint:
    """Return the endpoint of one inherited socket, by its index or its name (`FileDescriptorName=`); raise `ValueError`.

    The family is read from the socket: `ListenStream=3000` gives one of IPv6 that serves IPv4 too, and peers' addresses
    would be garbage if read as another family.
    """
    if (index is None) == (name is None):
        raise ValueError("either index or name must be given")
    sockets = _given()
    try:
        descriptor = sockets.inheritedDescriptors()[int(index)] if index else sockets.inheritedNamedDescriptors()[str(name)]
    except (LookupError, ValueError):
        count = len(sockets.inheritedDescriptors())
        raise ValueError(f"no such socket among the {count} that this process was given in LISTEN_FDS") from None
    try:
        with socket.socket(fileno=os.dup(descriptor)) as given:
            listens = given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            family = given.family
    except OSError as error:
        raise ValueError(f"descriptor {descriptor}: {error.strerror}") from None
    if not listens:
        raise ValueError(f"descriptor {descriptor} is no socket that listens (Accept=yes, or a datagram)")
    return AdoptedStreamServerEndpoint(reactor, descriptor, family)


def _given() -> ListenFDs:
    """Return the environment's entry at the start of the process: Twisted removes it from `os.environ` when it is imported.

    Names are a later addition to the protocol, and may be missing; systemd-socket-activate(1) gives none.
    """
    began = dict(entry.partition("=")[::2] for entry in os.fsdecode(ENVIRONMENT.read_bytes()).split("\0"))
    environ = {name: began[name] for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES") if began.get(name)}
    if environ.get("LISTEN_FDS", "").isdigit():
        environ.setdefault("LISTEN_FDNAMES", ":".join(["unknown"] * int(environ["LISTEN_FDS"])))
    return ListenFDs.fromEnvironment(environ)
