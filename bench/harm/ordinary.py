"""Ordinary traffic, whose cost per byte is the reference for hostile traffic."""

from __future__ import annotations

from collections.abc import Callable

from bench.harm.client import EVENTS
from bench.harm.roles import token
from bench.harm.stage import Stage

Traffic = Callable[[Stage], None]

TOGETHER = 50  # open messages
TEXT = "x" * 160
CALL, REGISTER, YIELD = 48, 64, 70  # of WAMP


def messages(stage: Stage) -> None:
    """Acknowledged publications of about 250 bytes, with a subscriber."""
    client = stage.json("all", attentive=True)
    for _ in range(300):
        for number in range(TOGETHER):
            client.say({"type": "publish", "eventType": "ordinary.event", "data": {"n": number, "text": TEXT}, "id": number})
        heard = 0
        while heard < TOGETHER and (found := client.messages()):
            heard += len(found)


def samples(stage: Stage) -> None:
    """Acknowledged telemetry of about 150 bytes."""
    client = stage.json("sensor", attentive=True)
    for _ in range(120):
        for number in range(TOGETHER):
            client.say({"type": "telemetry", "agentId": "sensor", "metrics": {"cpu": number, "text": TEXT[:60]}, "id": number})
        heard = 0
        while heard < TOGETHER and (found := client.messages()):
            heard += len(found)


def requests(stage: Stage) -> None:
    """Requests for the first page, one after another on one connection, whose responses are read."""
    client = stage.raw()
    for _ in range(1500):
        client.send(f"GET / HTTP/1.1\r\nHost: {stage.host}\r\nAccept: */*\r\n\r\n".encode())
        client.until(b"</html>")


def posts(stage: Stage) -> None:
    """Events of about 250 bytes over HTTP, on one connection."""
    client = stage.raw()
    for _ in range(1000):
        client.send(posted(stage, "all", b'{"eventType":"ordinary.event","data":"%b"}' % TEXT.encode()))
        client.until(b"\r\n\r\n")


def connections(stage: Stage) -> None:
    """Clients that connect, subscribe and leave."""
    for _ in range(300):
        client = stage.json("reader")
        client.ask({"type": "subscribe", "events": ["ordinary.event"]})
        client.close()


def sessions(stage: Stage) -> None:
    """200 clients that connect and subscribe, and 1,000 calls from one client to another."""
    for _ in range(200):
        stage.json("reader").ask({"type": "subscribe", "events": ["ordinary.*"]})
    caller, callee = stage.wamp("callee"), stage.wamp("callee")
    callee.ask([REGISTER, 1, {}, "ordinary.call"])
    for number in range(1, 1001):
        caller.say([CALL, number, {}, "ordinary.call"])
        for message in callee.messages():
            callee.say([YIELD, message[1], {}])
        caller.messages()


def posted(stage: Stage, subject: str, body: bytes) -> bytes:
    """Return a request that publishes."""
    fields = f"Host: {stage.host}\r\nAuthorization: Bearer {token(subject)}\r\nContent-Length: {len(body)}"
    return f"POST {EVENTS} HTTP/1.1\r\n{fields}\r\n\r\n".encode() + body
