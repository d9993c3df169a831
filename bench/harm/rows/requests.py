"""HTTP without a token."""

from __future__ import annotations

from bench.harm.client import EVENTS, Client
from bench.harm.stage import Stage

MUCH = 12 << 20  # bytes
BODY = 1 << 20
FIELDS = 16_000  # bytes of a header block


def pipelined(stage: Stage) -> None:
    """Pipelined requests whose responses are never read."""
    _pipelined(stage, stage.raw(deaf=True))


def pipelined_in_tls(stage: Stage) -> None:
    _pipelined(stage, stage.raw(stage.node.tls, deaf=True))


def _pipelined(stage: Stage, client: Client) -> None:
    many = f"GET / HTTP/1.1\r\nHost: {stage.host}\r\n\r\n".encode() * 1000
    while stage.tally.sent < MUCH and client.send(many):
        pass


def unfinished(stage: Stage) -> None:
    """Bodies without their last byte."""
    head = f"POST {EVENTS} HTTP/1.1\r\nHost: {stage.host}\r\nContent-Length: {BODY}\r\n\r\n".encode()
    clients = _many(stage, 50)
    for client in clients:
        client.send(head + b"x" * (BODY - 1))
    for client in clients:
        client.heed(0.01)


def crumbs(stage: Stage) -> None:
    """Bodies in chunks of one byte each."""
    head = f"POST {EVENTS} HTTP/1.1\r\nHost: {stage.host}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    for client in _many(stage, 8):
        client.send(head + b"1\r\nx\r\n" * (BODY // 16))


def extensions(stage: Stage) -> None:
    """Chunks of one byte with extensions of maximum length, and endless trailers."""
    head = f"POST {EVENTS} HTTP/1.1\r\nHost: {stage.host}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    extended = b"1;" + b"x" * 1000 + b"\r\nx\r\n"
    for number, client in enumerate(_many(stage, 16)):
        client.send(head + (extended * 500 if number % 2 else b"1\r\nx\r\n0\r\n" + b"a:\r\n" * 130_000))


def fields(stage: Stage) -> None:
    """Pipelined requests with the maximum number of header fields, with equal or different names."""
    for number, client in enumerate(_many(stage, 8)):
        names = (f"{field if number % 2 else 0:x}" for field in range(4000))
        block = "".join(f"{name}:\r\n" for name in names)[: FIELDS - FIELDS % 4]
        lines = block[: block.rindex("\r\n") + 2]
        client.send(f"GET / HTTP/1.1\r\nHost: {stage.host}\r\n{lines}\r\n".encode() * 30)


def floods(stage: Stage) -> None:
    """Connections that send nothing, or half a request."""
    for number, client in enumerate(_many(stage, 400)):
        if number % 2:
            client.send(f"GET {EVENTS} HTTP/1.1\r\nHost: {stage.host}\r\nX: ".encode() + b"x" * 8000)


def _many(stage: Stage, count: int) -> list[Client]:
    return [stage.raw() for _ in range(count)]
