"""TCP keepalive: detects dead clients without messages of the client's program (RFC 9293 section 3.8.4, RFC 5482).

The client's kernel answers the probes, so its program needs to do nothing. A UNIX socket needs no probes: its
other end is on this machine, and the kernel reports its end.
"""

from __future__ import annotations

import socket
import struct
from typing import Any, Final

from nexus_tw.model.settings import Heartbeat

PROBES: Final = 4  # sent between the interval and the timeout
_LONGEST: Final = 32767  # s; Linux' maximum for the two times
_LONGEST_WAIT: Final = 2**31 - 1  # ms; the maximum for the whole
_INFO: Final = 104  # bytes of Linux' struct tcp_info (linux/tcp.h) that are needed
_LAST_ACK: Final = 56  # offset of tcpi_last_ack_recv: ms since the last acknowledgement
_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)


def keep_alive(transport: Any, heartbeat: Heartbeat) -> None:
    """Have the kernel end a TCP connection, TLS or not, if its other side has not answered for `heartbeat.timeout`.

    The kernel starts probing after `heartbeat.interval` without traffic. Its times are whole seconds, so the connection of a
    dead client ends up to 2 s later than configured. Data that the client does not acknowledge counts as well.
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
    """Have the kernel probe the other side soon, until `keep_alive` is called again."""
    connection = transport.socket
    if connection.family in _INTERNET:
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
            connection.setsockopt(socket.IPPROTO_TCP, option, 1)


def silence(transport: Any) -> float:
    """Return the seconds since the other side's kernel was heard; 0 for a UNIX socket, as its other side is this kernel."""
    connection = transport.socket
    if connection.family not in _INTERNET:
        return 0.0
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO)
    milliseconds: int = struct.unpack_from("I", info, _LAST_ACK)[0]
    return milliseconds / 1000


def _seconds(time: float) -> int:
    return max(1, min(round(time), _LONGEST))
