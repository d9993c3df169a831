"""What is done is freed by counting references, at once: with the collector off nothing of a life is left when it ends."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.tcp import Server as ServedSocket
from twisted.logger import globalLogBeginner, globalLogPublisher

from nexus_tw.interfaces.plugins import Invoked
from nexus_tw.model.errors import NexusError
from nexus_tw.model.settings import Heartbeat, Limits, Realm, Role, Settings, Tls
from nexus_tw.realm.authorization import Question
from nexus_tw.transport.listening import endpoints
from tests.certificates import issue
from tests.client import CLOSE, TEXT, frame, handshake, request
from tests.hardening.lives import RawSocket, Visitor, WebSocket
from tests.node import TOKEN, Node, Nodes, turns, until

OURS = ("nexus_tw.", "autobahn.", "twisted.", "zope.", "OpenSSL.", "automat.")
TIMES = 3

Life = Callable[[int], None]

_numbers = count()

ROLES = {
    role: {"features": {"call_canceling": True, "progressive_call_results": True, "call_timeout": True}}
    for role in ("caller", "callee", "publisher", "subscriber")
}


def visit(port: int) -> None:
    client = WebSocket(port, TOKEN)
    client.hear("connected")
    client.say({"type": "subscribe", "events": ["a.*", "**"], "filters": {"n": {"gt": 1}}})
    client.hear("subscribed")
    client.say({"type": "publish", "eventType": "a.b", "data": {"n": 2}})
    client.hear("event")
    client.leave()


def dropped(port: int) -> None:
    client = WebSocket(port, TOKEN)
    client.hear("connected")
    client.say({"type": "subscribe", "events": ["a.*"]})
    client.hear("subscribed")
    client.reset()


def broken(port: int) -> None:
    """A frame that no client may send."""
    client = WebSocket(port, TOKEN)
    client.hear("connected")
    client.send(frame(TEXT, b"x", mask=None))
    client.leave()


def wrong(port: int) -> None:
    client = WebSocket(port, TOKEN)
    client.hear("connected")
    client.send(frame(TEXT, b"{"))
    client.hear("error")
    client.say({"type": "nonsense"})
    client.hear("error")
    client.say({"type": "subscribe", "events": ["a b"]})
    client.hear("error")
    client.say({"type": "telemetry", "agentId": "a", "metrics": {"x": None}})
    client.hear("error")
    client.send(frame(CLOSE, b"x"))
    client.rest()
    client.close()


def unauthorized(port: int) -> None:
    client = WebSocket(port, "no such token")
    client.hear("disconnect")
    client.send(frame(CLOSE, b"\x03\xf0"))
    client.rest()
    client.close()


def secure(port: int) -> None:
    client = WebSocket(port, TOKEN, secure=True)
    client.hear("connected")
    client.say({"type": "ping"})
    client.hear("pong")
    client.leave()


def secure_dropped(port: int) -> None:
    client = WebSocket(port, TOKEN, secure=True)
    client.hear("connected")
    client.reset()


def secure_never(port: int) -> None:
    client = Visitor(port)
    client.send(b"GET / HTTP/1.1\r\n\r\n")
    client.rest()
    client.close()


def secure_http(port: int) -> None:
    client = Visitor(port, secure=True)
    client.send(request("GET", "/health", None))
    client.until(b"\r\n\r\n")
    client.close()


def http(port: int) -> None:
    client = Visitor(port)
    for _ in range(2):
        client.send(request("GET", "/health", None))
        client.until(b"\r\n\r\n")
        client.until(b"}")
    body = b'{"type":"a.b","data":{}}'
    client.send(request("POST", "/api/v1/events", TOKEN, body))
    client.until(b"\r\n\r\n")
    client.close()


def http_closed(port: int) -> None:
    client = Visitor(port)
    client.send(request("GET", "/health", None, headers=("Connection: close",)))
    client.rest()
    client.close()


def http_refused(port: int) -> None:
    client = Visitor(port)
    client.send(request("GET", "/metrics", "wrong"))
    client.until(b"\r\n\r\n")
    client.until(b"}")
    client.send(request("DELETE", "/health", None))
    client.until(b"\r\n\r\n")
    client.until(b"}")
    client.send(b"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n")
    client.rest()
    client.close()


def http_cut(port: int) -> None:
    client = Visitor(port)
    client.send(request("POST", "/api/v1/events", TOKEN, headers=("Content-Length: 100",)))
    client.send(b"half")
    client.reset()


def late_upgrade(port: int) -> None:
    client = WebSocketLate(port)
    client.leave()


class WebSocketLate(WebSocket):
    def __init__(self, port: int) -> None:
        Visitor.__init__(self, port)
        self.send(request("GET", "/health", None))
        self.until(b"\r\n\r\n")
        self.until(b"}")
        self.send(handshake(token=TOKEN))
        assert self.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101")
        self.hear("connected")


def refused_upgrade(port: int) -> None:
    for data in (
        handshake("/nowhere"),
        handshake(token=TOKEN, headers=("Origin: http://evil.example",)),
        handshake(token=TOKEN, drop=("Sec-WebSocket-Key",)),
        handshake(token=TOKEN, drop=("Sec-WebSocket-Version",)),
        b"GET / HTTP/1.1\r\n\x0b\r\n\r\n",
        b"\x7f\x00\x00\x00",
    ):
        client = Visitor(port)
        client.send(data)
        client.rest()
        client.close()


def half_open(port: int) -> None:
    client = Visitor(port)
    client.send(b"GET / HT")
    client.reset()
    waiting = Visitor(port)
    waiting.send(b"GET / HT")
    waiting.rest()
    waiting.close()


def commands(port: int) -> None:
    agent = WebSocket(port, TOKEN)
    agent.hear("connected")
    agent.say({"type": "register", "commands": ["deploy", "lost"], "agentId": "agent-1"})
    agent.hear("registered")
    client = WebSocket(port, TOKEN)
    client.hear("connected")
    client.say({"type": "command", "command": "deploy", "parameters": {"x": [1]}, "id": 1})
    asked = agent.hear("command")
    agent.say({"type": "command_progress", "commandId": asked["commandId"], "data": {"n": 1}})
    client.hear("command_progress")
    agent.say({"type": "command_result", "commandId": asked["commandId"], "status": "success", "data": {"n": 1}})
    client.hear("command_result")
    known = f"command-{next(_numbers)}"
    client.say({"type": "command", "command": "deploy", "id": 1, "commandId": known})
    agent.hear("command")
    client.say({"type": "cancel", "commandId": known, "id": 1})
    client.hear("error")
    agent.hear("command_cancel")
    client.say({"type": "command", "command": "served", "id": 1})
    client.hear("command_result")
    client.say({"type": "command", "command": "failing", "id": 1})
    client.hear("error")
    client.say({"type": "command", "command": "deploy", "timeout": 0.01, "id": 1})
    agent.hear("command")
    client.hear("error")
    client.say({"type": "command", "command": "lost", "id": 1})
    agent.hear("command")
    agent.reset()
    client.hear("error")
    client.leave()


def telemetry(port: int) -> None:
    client = WebSocket(port, TOKEN)
    client.hear("connected")
    client.say({"type": "telemetry", "agentId": "agent-1", "metrics": {"cpu": 1, "a": {"b": 2}}, "id": 1})
    client.hear("telemetry_ack")
    client.leave()


Wamp = Callable[[int], Any]


def joined(make: Wamp, port: int) -> Any:
    client = make(port)
    client.say([1, "open", {"roles": ROLES}])
    client.hear(2)
    return client


def wamp(make: Wamp) -> Life:
    def life(port: int) -> None:
        callee, caller = joined(make, port), joined(make, port)
        callee.say([64, 1, {}, "one"])
        callee.hear(65)
        caller.say([32, 1, {"match": "prefix"}, "topic"])
        subscription = caller.hear(33)[2]
        callee.say([16, 2, {"acknowledge": True}, "topic.a", [1]])
        callee.hear(17)
        caller.hear(36)
        caller.say([34, 2, subscription])
        caller.hear(35)
        # answered, with progress
        caller.say([48, 3, {"receive_progress": True}, "one", ["x"]])
        asked = callee.hear(68)[1]
        callee.say([70, asked, {"progress": True}, [1]])
        caller.hear(50)
        callee.say([70, asked, {}, [2]])
        caller.hear(50)
        # an error
        caller.say([48, 4, {}, "one", ["x"]])
        callee.say([8, 68, callee.hear(68)[1], {}, "some.error", ["x"]])
        caller.hear(8)
        # cancelled
        for number, mode in ((5, "skip"), (6, "killnowait"), (7, "kill")):
            caller.say([48, number, {}, "one", ["x"]])
            asked = callee.hear(68)[1]
            caller.say([49, number, {"mode": mode}])
            if mode == "kill":
                callee.hear(69)
                callee.say([8, 68, asked, {}, "wamp.error.canceled"])
            caller.hear(8)
        # too late
        caller.say([48, 8, {"timeout": 10}, "one", ["x"]])
        caller.hear(8)
        # nobody, and the server's own
        caller.say([48, 9, {}, "nobody"])
        caller.hear(8)
        caller.say([48, 10, {}, "wamp.session.count"])
        caller.hear(50)
        # the callee is lost
        caller.say([48, 11, {}, "one", ["x"]])
        callee.hear(68)
        callee.reset()
        caller.hear(8)
        # the caller is lost
        callee = joined(make, port)
        callee.say([64, 1, {}, "two"])
        callee.hear(65)
        caller.say([48, 12, {}, "two", ["x"]])
        callee.hear(68)
        caller.leave()
        callee.hear(69)
        callee.say([66, 2, 99])
        callee.hear(8)
        callee.say([6, {}, "wamp.close.normal"])
        callee.hear(6)
        callee.leave()

    return life


def wamp_aborted(make: Wamp) -> Life:
    def life(port: int) -> None:
        for said in ([1, "nowhere", {"roles": ROLES}], [1, "open"], [48, 1, {}, "x"]):
            client = make(port)
            client.say(said)
            client.hear(3)
            client.leave()

    return life


def judge(question: Question) -> Any:
    """Allow or deny, at once, later or much later, depending on the name."""
    how = question.uri.rpartition(".")[2]
    answer: Deferred[bool] = Deferred()
    if how in ("later", "slow"):
        caller: Any = reactor
        caller.callLater(0.1 if how == "slow" else 0, answer.callback, True)
        return answer
    return how == "yes"


def judged(port: int) -> None:
    """A session whose requests an authorizer is asked about, and which is gone while some are not answered."""
    client = WebSocket(port, protocol="wamp.2.json")
    client.say([1, "judged", {"roles": ROLES}])
    client.hear(2)
    number = next(_numbers)  # for names about which nothing is remembered
    for place, how in enumerate(("yes", "later"), 1):
        client.say([32, place, {}, f"a{number}.{how}"])
        client.hear(33)
        client.say([16, place + 10, {"acknowledge": True}, f"b{number}.{how}", [1]])
        client.hear(17)
        client.say([64, place + 20, {}, f"c{number}.{how}"])
        client.hear(65)
    client.say([48, 30, {}, f"d{number}.no", ["x"]])
    client.hear(8)
    for place in range(40, 43):
        client.say([16, place, {"acknowledge": True}, f"e{number}.slow", ["x"]])
    client.reset()


def asked_by_procedure(port: int) -> None:
    """A realm whose authorizer is a session, which is lost while it is asked."""
    judge = WebSocket(port, token=TOKEN, protocol="wamp.2.json")
    judge.say([1, "asked", {"roles": ROLES}])
    judge.hear(2)
    judge.say([64, 1, {}, "com.judge"])
    judge.hear(65)
    client = WebSocket(port, protocol="wamp.2.json")
    client.say([1, "asked", {"roles": ROLES}])
    client.hear(2)
    number = next(_numbers)
    for place, allowed in enumerate((True, False), 1):
        client.say([16, place, {"acknowledge": True}, f"f{number}.{place}", ["x"]])
        judge.say([70, judge.hear(68)[1], {}, [allowed]])
        if allowed:
            client.hear(17)
        else:
            client.hear(8)
    client.say([16, 3, {"acknowledge": True}, f"f{number}.3", ["x"]])
    judge.hear(68)
    judge.reset()
    client.hear(8)
    client.leave()


def over_websocket(port: int) -> WebSocket:
    return WebSocket(port, protocol="wamp.2.json")


def packed_over_websocket(port: int) -> WebSocket:
    return WebSocket(port, protocol="wamp.2.msgpack")


def cbor_over_websocket(port: int) -> WebSocket:
    return WebSocket(port, protocol="wamp.2.cbor")


def packed_over_rawsocket(port: int) -> RawSocket:
    return RawSocket(port, encoding="msgpack")


def cbor_over_rawsocket(port: int) -> RawSocket:
    return RawSocket(port, encoding="cbor")


def over_tls(port: int) -> RawSocket:
    return RawSocket(port, secure=True)


PLAIN: dict[str, Life] = {
    "a WebSocket that subscribes": visit,
    "a WebSocket that is dropped": dropped,
    "a WebSocket that breaks the protocol": broken,
    "a WebSocket with wrong messages": wrong,
    "a WebSocket without a token": unauthorized,
    "HTTP kept alive": http,
    "HTTP closed": http_closed,
    "HTTP refused": http_refused,
    "HTTP cut off in a body": http_cut,
    "an upgrade on a connection that is kept alive": late_upgrade,
    "an upgrade that is refused": refused_upgrade,
    "a header block that never ends": half_open,
    "commands": commands,
    "telemetry": telemetry,
    "WAMP over WebSocket": wamp(over_websocket),
    "WAMP over RawSocket": wamp(RawSocket),
    "WAMP over WebSocket, MessagePack": wamp(packed_over_websocket),
    "WAMP over WebSocket, CBOR": wamp(cbor_over_websocket),
    "WAMP over RawSocket, MessagePack": wamp(packed_over_rawsocket),
    "WAMP over RawSocket, CBOR": wamp(cbor_over_rawsocket),
    "WAMP with an authorizer": judged,
    "WAMP with an authorizer that is a session": asked_by_procedure,
    "WAMP over WebSocket, aborted": wamp_aborted(over_websocket),
    "WAMP over RawSocket, aborted": wamp_aborted(RawSocket),
    "WAMP over RawSocket, CBOR, aborted": wamp_aborted(cbor_over_rawsocket),
}
SECURE: dict[str, Life] = {
    "WSS": secure,
    "WSS that is dropped": secure_dropped,
    "no TLS where TLS is spoken": secure_never,
    "HTTPS": secure_http,
    "WAMP over RawSocket with TLS": wamp(over_tls),
}


def served(invoked: Invoked) -> Any:
    invoked.progress({"n": 1})
    return {"n": 2}


def failing(invoked: Invoked) -> Any:
    raise NexusError("failed", "no")


@pytest.fixture
def left() -> Iterator[Callable[[], Counter[str]]]:
    """Give what only the garbage collector would find, of all that was made since the last call, by kind."""
    buffer: Any = globalLogBeginner._initialBuffer
    globalLogPublisher.removeObserver(buffer)  # until somebody listens it keeps every event, and what that is about
    gc.disable()

    def found() -> Counter[str]:
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        kinds = Counter(map(kind_of, gc.garbage))
        gc.garbage.clear()
        gc.collect()
        gc.freeze()
        return Counter({kind: count for kind, count in kinds.items() if kind.startswith(OURS)})

    yield found
    gc.unfreeze()
    gc.enable()
    globalLogPublisher.addObserver(buffer)


def kind_of(thing: Any) -> str:
    kind = type(thing)
    code = getattr(thing, "f_code", None) or getattr(thing, "__code__", None)
    if code is not None:
        module = (getattr(thing, "f_globals", None) or getattr(thing, "__globals__", {})).get("__name__", "")
        return f"{module}.{code.co_qualname} ({kind.__name__})"
    owner = getattr(thing, "__self__", None)
    if owner is not None and kind.__name__ in ("method", "builtin_function_or_method"):
        return f"{kind_of(owner)}.{thing.__name__} ({kind.__name__})"
    return f"{kind.__module__}.{kind.__qualname__}"


async def live(life: Life, port: int, node: Node) -> None:
    failed: list[BaseException] = []

    def run() -> None:
        try:
            life(port)
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=run)
    thread.start()
    await until(lambda: not thread.is_alive())
    if failed:
        raise failed[0]
    await over()
    await node.connected(0)
    await until(lambda: not node.left())  # an authorizer may still be asked for one that is gone


async def over() -> None:
    """Wait until the server has lost every connection."""
    readers: Any = reactor
    await until(lambda: not [each for each in readers.getReaders() if isinstance(each, ServedSocket)])
    await turns()


def settings(handshake: float = 0.2, **more: Any) -> Settings:
    return Settings(
        limits=Limits(handshake=handshake),
        heartbeat=Heartbeat(),
        roles={
            "guest": Role(
                subscribe=("**",),
                publish=("**",),
                call=("**", "wamp.session.count"),
                register=("**",),
                realms=("open",),
            ),
            "nobody": Role(realms=("judged", "asked")),
        },
        realms={
            "open": Realm(anonymous="guest"),
            "judged": Realm(anonymous="nobody", authorizer="tests.hardening.test_cycles:judge"),
            "asked": Realm(anonymous="nobody", authorizer="procedure:com.judge"),
        },
        **more,
    )


async def lived(node: Node, port: int, life: Life, left: Callable[[], Counter[str]]) -> Counter[str]:
    await live(life, port, node)  # what is there once for all
    left()
    for _ in range(TIMES):
        await live(life, port, node)
    return left()


@pytest.mark.parametrize("life", PLAIN.values(), ids=PLAIN)
@pytest_twisted.ensureDeferred
async def test_with_the_collector_off_nothing_is_left(
    life: Life, nodes: Nodes, left: Callable[[], Counter[str]], faults: list[str]
) -> None:
    node = await nodes(settings(), commands={"served": served, "failing": failing})
    assert await lived(node, node.port, life, left) == {}
    # That an authorizer is lost while it is asked is told to the operator.
    faults[:] = [fault for fault in faults if not fault.startswith("The authorizer of asked fails: who executed it")]


@pytest.mark.parametrize("life", SECURE.values(), ids=SECURE)
@pytest_twisted.ensureDeferred
async def test_with_the_collector_off_nothing_is_left_of_tls(
    life: Life, nodes: Nodes, tmp_path: Path, left: Callable[[], Counter[str]]
) -> None:
    certificate, key = issue().write(tmp_path, "server")
    tls = Tls(certificate=certificate, key=key)
    node = await nodes(settings(handshake=2, tls=tls))  # a handshake of TLS takes longer on a busy machine
    port: Any = await node.listen(endpoints.endpoint(reactor, "tls:0:interface=127.0.0.1", tls))
    assert await lived(node, port.getHost().port, life, left) == {}
