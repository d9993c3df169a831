"""TCP keepalive: finds dead clients that need not say anything of themselves (RFC 9293 section 3.8.4, RFC 5482).

The client's kernel answers the probes, so the client's program needs to know nothing of them. A UNIX socket needs none: its
other end is on this machine, and the kernel says when it is gone.
"""

from __future__ import annotations

import socket
import struct
from typing import Any, Final

from nexus_tw.model.settings import Heartbeat

PROBES: Final = 4  # that are sent between the interval and the timeout
_LONGEST: Final = 32767  # s; what Linux takes for the two times
_LONGEST_WAIT: Final = 2**31 - 1  # ms; the same for the whole
_INFO: Final = 104  # bytes of Linux' struct tcp_info (linux/tcp.h) that are wanted
_LAST_ACK: Final = 56  # where it has tcpi_last_ack_recv: ms since an acknowledgement came
_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)


def keep_alive(transport: Any, heartbeat: Heartbeat) -> None:
    """Has the kernel end a TCP connection, TLS or not, whose other side has not answered for `heartbeat.timeout`.

    The kernel begins to ask after `heartbeat.interval` without traffic. Its times are whole seconds, so the connection of a
    client that is gone ends up to 2 s later than told. Data that the client does not acknowledge counts as well.
    """
    connection = transport.socket
    if connection.family not in _INTERNET:
        return
    idle = _seconds(heartbeat.interval)
    gap = _seconds((heartbeat.timeout - heartbeat.interval) / PROBES)
    longest = max(round(heartbeat.timeout * 1000), (idle + gap) * 1000)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, gap)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, min(longest, _LONGEST_WAIT))


def hurry(transport: Any) -> None:
    """Has the kernel ask the other side soon, until `keep_alive` is called again."""
    connection = transport.socket
    if connection.family in _INTERNET:
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
            connection.setsockopt(socket.IPPROTO_TCP, option, 1)


def silence(transport: Any) -> float:
    """Return the seconds since the other side's kernel was heard; 0 for a UNIX socket, whose other side is this kernel."""
    connection = transport.socket
    if connection.family not in _INTERNET:
        return 0.0
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO)
    milliseconds: int = struct.unpack_from("I", info, _LAST_ACK)[0]
    return milliseconds / 1000


def _seconds(time: float) -> int:
    return max(1, min(round(time), _LONGEST))
