"""WAMP over RawSocket."""

from __future__ import annotations

from bench.harm.client import PING
from bench.harm.rows.calls import CALL, INVOCATION, LARGE, REGISTER, YIELD
from bench.harm.rows.maps import cbor_hello, msgpack_map
from bench.harm.stage import Stage

STRANGER = 16384  # bytes of a message of an unauthenticated client
WELCOME = 0.3  # s


def unread(stage: Stage) -> None:
    """A caller that requests 200 results of 60 kB and reads none."""
    callee = stage.joined("callee", attentive=True)
    callee.ask([REGISTER, 1, {}, "large"])
    caller = stage.joined("callee", deaf=True)
    for number in range(1, 201):
        if not caller.say([CALL, number, {}, "large"]):
            break
    while invoked := callee.messages(1.0):
        for message in invoked:
            if message[0] == INVOCATION:
                callee.say([YIELD, message[1], {}, [LARGE]])


def pings(stage: Stage) -> None:
    """Pings of maximum size from unauthenticated clients, whose pongs are not read."""
    for _ in range(4):
        client = stage.rawsocket(deaf=True)
        while client.frame(PING, b"x" * (STRANGER - 4)) and stage.tally.sent < 40 << 20:
            pass


def small(stage: Stage) -> None:
    """Empty pings, whose pongs are read."""
    client = stage.joined("reader")
    for _ in range(100):
        client.send(bytes((PING, 0, 0, 0)) * 10_000)
    client.heed(0.5)


def maps(stage: Stage) -> None:
    """Publications whose keyword arguments have keys with equal hashes."""
    client = stage.joined("publisher", "msgpack")
    for number in range(1, 21):
        head = b"\x96\x10" + client.encode(number) + b"\x81\xabacknowledge\xc3\xa5a.b.c\x90"
        if not client.text(head + msgpack_map(200_000)):
            break
    client.heed(0.5)


def hellos(stage: Stage) -> None:
    for _ in range(20):
        client = stage.rawsocket("cbor")
        client.text(cbor_hello(STRANGER))
        client.heed(0.05)


def unfinished(stage: Stage) -> None:
    """Frames of unauthenticated clients without their last byte."""
    clients = [stage.rawsocket() for _ in range(200)]
    for client in clients:
        client.send(STRANGER.to_bytes(4) + b"x" * (STRANGER - 1))
    clients[-1].heed(1.0)
