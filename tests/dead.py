"""Simulates a host that has vanished: the socket accepts and acknowledges nothing, and sends nothing."""

from __future__ import annotations

import ctypes
import socket
import struct

_SO_ATTACH_FILTER = 26  # Linux, asm-generic/socket.h
_TAKE_NOTHING = struct.pack("HBBI", 0x06, 0, 0, 0)  # one instruction of a packet filter: return 0 bytes


def die(connection: socket.socket) -> None:
    """Make the kernel drop every further segment for this TCP socket, as if its host had vanished.

    Needs no privileges: a program may filter what its own sockets receive (Linux, "Linux Socket Filtering").
    """
    instructions = ctypes.create_string_buffer(_TAKE_NOTHING)
    program = struct.pack("HL", 1, ctypes.addressof(instructions))
    connection.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
