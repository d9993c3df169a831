"""Clients that read everything at once, in a process of their own: `tests.hardening.listeners PORT TOKEN CLIENTS EVENTS`.

They subscribe to `TYPE`, print `ready`, and at the end the number of events that each received in order, and their delays.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from typing import Final

from nexus_tw.app.node import raise_descriptor_limit
from tests.client import TEXT, frame, handshake

TYPE: Final = "slow.readers"
SIZE: Final = 1000  # bytes of an event's data
PATIENCE: Final = 30.0  # s without anything to read
HEAD: Final = len(b'\x81\x7e..{"type":"event","eventType":"%b","data":"' % TYPE.encode())
FRAME: Final = HEAD + SIZE + len(b'"}')


def data(number: int) -> str:
    """Return an event's data: its number, and its time by a clock shared by all processes of the machine."""
    return f"{number:09d} {time.monotonic_ns():019d} ".ljust(SIZE, "x")


class Listener:
    """One connection after its `subscribed`."""

    def __init__(self, port: int, token: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(handshake(token=token))
        self._until(b'"connected"')
        self.socket.sendall(frame(TEXT, json.dumps({"type": "subscribe", "events": [TYPE]}).encode()))
        self._until(b'"subscribed"')
        self.socket.setblocking(False)
        self.count = 0
        self._rest = b""

    def read(self, ages: list[float]) -> None:
        """Read the received bytes. Raise `AssertionError` unless they are the next events."""
        received = self.socket.recv(1 << 18)
        assert received, "closed"
        now = time.monotonic_ns()
        read = self._rest + received
        whole = len(read) // FRAME
        for place in range(HEAD, whole * FRAME, FRAME):
            assert int(read[place : place + 9]) == self.count
            self.count += 1
            ages.append((now - int(read[place + 10 : place + 29])) / 1e9)
        self._rest = read[whole * FRAME :]

    def _until(self, mark: bytes) -> None:
        read = b""
        while mark not in read:
            received = self.socket.recv(65536)
            assert received, read
            read += received


def main() -> None:
    port, clients, events = int(sys.argv[1]), int(sys.argv[3]), int(sys.argv[4])
    raise_descriptor_limit()
    selector = selectors.DefaultSelector()
    listeners = [Listener(port, sys.argv[2]) for _ in range(clients)]
    for listener in listeners:
        selector.register(listener.socket, selectors.EVENT_READ, listener)
    print("ready", flush=True)
    ages: list[float] = []
    while selector.get_map():
        ready = selector.select(PATIENCE)
        if not ready:
            break
        for key, _ in ready:
            key.data.read(ages)
            if key.data.count == events:
                selector.unregister(key.fileobj)
    ages.sort()
    p99 = ages[len(ages) * 99 // 100] if ages else 0.0
    print(json.dumps({"least": min(listener.count for listener in listeners), "p99": p99}), flush=True)


if __name__ == "__main__":
    main()
