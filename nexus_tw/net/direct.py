"""Sends at once, past the reactor.

A reactor's own write registers for a wake-up, sends from there and unregisters, which costs several times as much as the `send`
itself. So if nothing is queued, bytes are sent at once, and only those that the kernel did not accept are left to the
transport.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Connection as SocketTransport


def is_socket(transport: object) -> bool:
    """Return whether this is the transport of a socket itself, with nothing like TLS in between."""
    return isinstance(transport, SocketTransport)


def send(socket: Any, data: bytes) -> bytes:
    """Send at once if nothing is queued; return the bytes that are left for the transport of that socket."""
    if socket.dataBuffer or socket._tempDataBuffer or socket.disconnecting:
        return data
    try:
        sent = socket.socket.send(data)
    except (OSError, AttributeError):
        # Full, or lost. The transport notices a loss on its own write, and reports it in the usual place: reported from
        # here it would come in the middle of a fan-out.
        return data
    return b"" if sent == len(data) else data[sent:]
