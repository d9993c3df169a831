from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection
from twisted.internet.testing import StringTransport

from nexus_tw.net.direct import is_socket, send


@pytest.fixture
def ends() -> Iterator[tuple[Any, socket.socket]]:
    """A transport over one end of a pair of sockets, and the other end."""
    near, far = socket.socketpair()
    near.setblocking(False)
    yield Connection(near, Protocol(), reactor), far
    near.close()
    far.close()


def test_what_the_socket_takes_is_sent_at_once(ends: tuple[Any, socket.socket]) -> None:
    transport, far = ends
    assert is_socket(transport)
    assert send(transport, b"now") == b""
    assert far.recv(10) == b"now"


def test_what_the_socket_does_not_take_is_left(ends: tuple[Any, socket.socket]) -> None:
    transport, far = ends
    much = bytes(range(256)) * 65536
    left = send(transport, much)
    assert 0 < len(left) < len(much)
    assert send(transport, b"more") == b"more"
    sent = b""
    while len(sent) < len(much) - len(left):
        sent += far.recv(1 << 20)
    assert sent + left == much


def test_nothing_overtakes_what_waits(ends: tuple[Any, socket.socket]) -> None:
    transport, _ = ends
    for attribute, value in (("dataBuffer", b"x"), ("_tempDataBuffer", [b"x"]), ("disconnecting", True)):
        before = getattr(transport, attribute)
        setattr(transport, attribute, value)
        assert send(transport, b"data") == b"data"
        setattr(transport, attribute, before)


def test_a_loss_is_left_for_the_transport_to_find(ends: tuple[Any, socket.socket]) -> None:
    transport, far = ends
    far.close()
    assert send(transport, b"data") == b"data"
    transport.socket.close()
    assert send(transport, b"data") == b"data"
    del transport.socket
    assert send(transport, b"data") == b"data"


def test_other_transports_are_no_sockets() -> None:
    assert not is_socket(StringTransport())
