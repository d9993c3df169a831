"""HTTP without a token."""

from __future__ import annotations

from bench.harm.client import EVENTS, Client
from bench.harm.stage import Stage

MUCH = 12 << 20  # bytes
BODY = 1 << 20


def pipelined(stage: Stage) -> None:
    """Requests behind each other, answers never read."""
    _pipelined(stage, stage.raw(deaf=True))


def pipelined_in_tls(stage: Stage) -> None:
    _pipelined(stage, stage.raw(stage.node.tls, deaf=True))


def _pipelined(stage: Stage, client: Client) -> None:
    many = f"GET / HTTP/1.1\r\nHost: {stage.host}\r\n\r\n".encode() * 1000
    while stage.tally.sent < MUCH and client.send(many):
        pass


def unfinished(stage: Stage) -> None:
    """Bodies that lack their last byte."""
    head = f"POST {EVENTS} HTTP/1.1\r\nHost: {stage.host}\r\nContent-Length: {BODY}\r\n\r\n".encode()
    clients = _many(stage, 50)
    for client in clients:
        client.send(head + b"x" * (BODY - 1))
    for client in clients:
        client.heed(0.01)


def crumbs(stage: Stage) -> None:
    """Bodies in chunks of a byte each."""
    head = f"POST {EVENTS} HTTP/1.1\r\nHost: {stage.host}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    for client in _many(stage, 8):
        client.send(head + b"1\r\nx\r\n" * (BODY // 16))


def floods(stage: Stage) -> None:
    """Connections that say nothing, or half of a request."""
    for number, client in enumerate(_many(stage, 400)):
        if number % 2:
            client.send(f"GET {EVENTS} HTTP/1.1\r\nHost: {stage.host}\r\nX: ".encode() + b"x" * 8000)


def _many(stage: Stage, count: int) -> list[Client]:
    return [stage.raw() for _ in range(count)]
