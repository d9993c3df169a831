"""Sending at once, past the reactor.

A reactor's own write asks for a wake-up, sends from there and gives the wake-up back, which costs several times the one `send`
that does the work. So where nothing waits, bytes are sent at once, and only what the kernel did not take is left to the
transport.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Connection as SocketTransport


def is_socket(transport: object) -> bool:
    """Whether this is the transport of a socket itself, with nothing like TLS in between."""
    return isinstance(transport, SocketTransport)


def send(socket: Any, data: bytes) -> bytes:
    """Sends at once if nothing waits; gives what is left for the transport of that socket to send."""
    if socket.dataBuffer or socket._tempDataBuffer or socket.disconnecting:
        return data
    try:
        sent = socket.socket.send(data)
    except (OSError, AttributeError):
        # Full, or lost. The transport finds the same when it writes, and reports a loss where losses are reported: told from
        # here it would come in the middle of a fan-out.
        return data
    return b"" if sent == len(data) else data[sent:]
