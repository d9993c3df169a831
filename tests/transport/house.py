"""The doors alone, on a real port: without a core, with a dialect whose sessions report all calls."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest_twisted
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

from nexus_tw import auth
from nexus_tw.auth import Authenticators
from nexus_tw.interfaces.peers import Peer
from nexus_tw.interfaces.sessions import Dialect, Link
from nexus_tw.model.errors import Close, NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Settings
from nexus_tw.protocols import frames
from nexus_tw.runtime.turn import Turn
from nexus_tw.transport.admission import Admission, Way
from nexus_tw.transport.connections import Connections
from nexus_tw.transport.door import Doors
from nexus_tw.transport.heartbeat import Pulse
from nexus_tw.transport.http.answers import Answer
from nexus_tw.transport.http.exchange import Exchange
from nexus_tw.transport.http.routes import Root
from nexus_tw.transport.http.site import BoundedSite
from nexus_tw.transport.http.stream import EventStreams
from nexus_tw.transport.listening.endpoints import listener
from nexus_tw.transport.rawsocket import RawSockets
from nexus_tw.transport.websocket import Doorway
from tests.client import Client, Ended, Response, Wire, dial, handshake
from tests.node import TOKEN, clock, until
from tests.recording import RecordingPeer, principal

JSON, MSGPACK, STRICT = 1, 2, 3  # serializers of RawSocket; the last one's dialect introduces nobody


class Raw:
    """A RawSocket client over a wire, after its handshake. It answers pings during every read."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []

    def send_text(self, payload: bytes) -> None:
        self.wire.write(raw(payload))

    async def frame(self) -> tuple[int, bytes]:
        """Return kind and payload of the next frame."""
        head = await self.wire.exactly(4)
        kind, size = head[0], int.from_bytes(head[1:])
        if kind >= 8:
            assert size == 0
            kind, size = kind - 8, 1 << 24
        return kind, await self.wire.exactly(size)

    async def message(self) -> bytes:
        """Return the payload of the next message. Raise `Ended` if the connection ends."""
        while True:
            kind, payload = await self.frame()
            if kind == 1:
                self.pings.append(payload)
                self.wire.write(raw(payload, 2))
            elif kind == 2:
                self.pongs.append(payload)
            else:
                assert kind == 0
                return payload


def raw(payload: bytes, kind: int = 0) -> bytes:
    """Return a RawSocket frame of a client."""
    return bytes([kind]) + len(payload).to_bytes(3) + payload


def hands(serializer: int = JSON, length: int = 15, reserved: bytes = b"\0\0") -> bytes:
    """Return a client's RawSocket handshake: its largest message has 2 to the power of 9 + `length` bytes."""
    return bytes([0x7F, length << 4 | serializer]) + reserved


async def left(client: Client | Raw) -> list[bytes]:
    """Return the messages up to the end of the connection."""
    messages: list[bytes] = []
    try:
        while True:
            messages.append(await client.message())
    except Ended:
        await client.wire.rest()
        return messages


class Session:
    """Sends back each message, text as `t:…` and bytes as `b:…`; some messages make it act."""

    def __init__(self, dialect: Introducing, link: Link, who: Principal | None) -> None:
        self.dialect = dialect
        self.link = link
        self.who = who
        self.peer: Peer | None = None
        self.client: Peer | None = None
        self.ended = 0
        self.overruns = 0

    def say(self, text: bytes) -> None:
        self.link.write(self.dialect.frame(text))

    def begin(self) -> None:
        self.say(b"welcome " + (b"nobody" if self.who is None else self.who.subject.encode()))

    def received(self, payload: bytes, is_binary: bool) -> None:
        word, _, rest = payload.partition(b" ")
        if word == b"hello":
            subject, _, lifetime = rest.decode().partition(" ")
            self.introduce(subject, clock.seconds() + float(lifetime) if lifetime else None)
        elif word == b"fail":
            raise RuntimeError("a fault of ours")
        elif word == b"close":
            self.link.close(Close(1000, "As you wish", False))
        else:
            self.say((b"b:" if is_binary else b"t:") + payload)

    def introduce(self, subject: str, expires: float | None = None) -> None:
        who = principal(subject)
        who.expires = expires
        try:
            self.link.identified(who)
        except NexusError as error:
            self.say(b"refused " + error.code.encode())
        else:
            self.peer = self.client = RecordingPeer(subject)
            self.say(b"hello " + subject.encode())

    def broken(self, _payload: bytes) -> None:
        self.say(b"broken")

    def farewell(self, close: Close) -> bytes:
        return self.dialect.frame(b"farewell %d" % close.code)

    def overran(self) -> None:
        assert not self.ended
        self.overruns += 1

    def end(self) -> None:
        self.ended += 1


class Introducing:
    """Makes such sessions, and keeps them in `sessions`."""

    def __init__(self, raw: bool = False, introduces: bool = True) -> None:
        self.frame = frames.rawsocket if raw else frames.text
        self.heartbeat = frames.rawsocket(b"", frames.RAW_PING) if raw else frames.frame(frames.PING, b"")
        self.introduces = introduces
        self.sessions: list[Session] = []

    def session(self, link: Link, who: Principal | None, _address: str) -> Session:
        self.sessions.append(Session(self, link, who))
        return self.sessions[-1]

    def farewell(self, close: Close) -> bytes:
        return self.frame(b"turned away %d" % close.code)


def _keeps_its_shape(dialect: Introducing) -> Dialect:
    """Never called: lets the type checker verify that the fake implements its interface."""
    return dialect


class House:
    """Doors with `/ws` (subprotocols `wamp.2.json` and `wamp.2.msgpack` only), `/json`, RawSocket and `GET /page`."""

    def __init__(self, settings: Settings, authenticators: Authenticators | None) -> None:
        limits = settings.limits
        self.metrics = Metrics()
        self.web, self.raw_dialect = Introducing(), Introducing(raw=True)
        plain: Mapping[str | None, Dialect] = {None: Introducing(introduces=False), "wamp.2.json": self.web}
        self.pulse = Pulse(clock, settings.heartbeat, Random(1))
        self.connections = Connections(clock, limits, 1000, Random(1))
        shared = (clock, Turn(clock), self.pulse, self.connections, limits, self.metrics)
        ways = {
            "/ws": Way({"wamp.2.json": self.web, "wamp.2.msgpack": self.web}, limits.message),
            "/json": Way(plain, limits.message),
        }
        admission = Admission(
            ways,
            authenticators or auth.build(settings, TOKEN, clock),
            self.connections,
            settings.http,
            self.metrics,
            clock,
            limits,
        )

        no_streams: Any = None  # they have nodes of their own

        def make_site(upgrade: Any) -> Any:
            return BoundedSite(Root({"/page": {"GET": self._page}}, admission, upgrade), clock, limits.headers, limits.message)

        dialects = {JSON: self.raw_dialect, MSGPACK: self.raw_dialect, STRICT: Introducing(raw=True, introduces=False)}
        self.doors = Doors(
            clock,
            admission,
            Doorway(*shared),
            make_site,
            limits,
            RawSockets(*shared, dialects),
            EventStreams(*shared, no_streams, Random(1)),
        )
        self.wires: list[Wire] = []
        self._ports: list[Any] = []

    async def open(self, settings: Settings) -> None:
        self.pulse.start()
        plain = TCP4ServerEndpoint(clock, 0, interface="127.0.0.1")
        self._ports.append(await plain.listen(self.doors))
        if settings.tls.certificate:
            endpoint = listener(clock, "tls:0:interface=127.0.0.1", settings.tls).endpoint
            self._ports.append(await endpoint.listen(self.doors))

    @property
    def port(self) -> int:
        """The port of the last endpoint."""
        return int(self._ports[-1].getHost().port)

    async def wire(self, data: bytes = b"", endpoint: IStreamClientEndpoint | None = None) -> Wire:
        """Return a new connection on which these bytes have been sent."""
        wire = await dial(endpoint or TCP4ClientEndpoint(clock, "127.0.0.1", self._ports[0].getHost().port))
        self.wires.append(wire)
        wire.write(data)
        return wire

    async def raw(self, data: bytes = b"", endpoint: IStreamClientEndpoint | None = None, **wishes: Any) -> Raw:
        """Return a RawSocket client after its handshake, directly followed by these bytes; `wishes` as for `hands`."""
        wire = await self.wire(hands(**wishes) + data, endpoint)
        answer = await wire.exactly(4)
        assert answer[0] == 0x7F and answer[1] & 0x0F == wishes.get("serializer", JSON) and answer[2:] == b"\0\0"
        return Raw(wire)

    async def turned_away(self, data: bytes) -> bytes:
        """Return the server's answer to a RawSocket client before the connection is closed."""
        wire = await self.wire(data)
        return await wire.rest()

    async def websocket(self, target: str = "/ws", **words: Any) -> Client:
        """Return a WebSocket after its handshake; `words` as for `handshake`."""
        words.setdefault("protocols", ["wamp.2.json"])
        wire = await self.wire(handshake(target, **words))
        client = Client(wire, await wire.response())
        assert client.response.status == 101, client.response
        return client

    async def refusal(self, target: str, **words: Any) -> Response:
        """Return the response to an opening handshake that is refused, after which the connection is closed."""
        wire = await self.wire(handshake(target, **words))
        response = await wire.response()
        assert response.status != 101 and await wire.rest() == b""
        return response

    async def client(self, carrier: str) -> Client | Raw:
        """Return an unauthenticated client after its welcome; by `web` or `raw`."""
        client = await (self.websocket() if carrier == "web" else self.raw())
        assert await client.message() == b"welcome nobody"
        return client

    def session(self, carrier: str) -> Session:
        """Return the last session of that carrier."""
        return (self.web if carrier == "web" else self.raw_dialect).sessions[-1]

    def transports(self) -> list[Any]:
        """Return the server's ends of its open connections."""
        connections: list[Any] = list(self.connections)
        return [connection.transport for connection in connections]

    async def connected(self, number: int) -> None:
        await until(lambda: len(self.connections) == number)

    async def close(self) -> None:
        """Stop everything, and check that no state of clients is left."""
        for port in self._ports:
            await port.stopListening()
        for wire in self.wires:
            wire.drop()
        await until(lambda: all(wire.over for wire in self.wires))
        await self.connected(0)
        await until(lambda: not self.connections.visits)
        self.pulse.stop()
        connections: Any = self.connections
        assert not connections._by_address and not connections._by_subject
        assert not [connection for slot in self.pulse._slots.values() for connection in slot]
        for session in (*self.web.sessions, *self.raw_dialect.sessions):
            assert session.ended == 1

    async def _page(self, call: Exchange) -> Answer:
        return Answer(200, b'"a page"')


class Houses:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._made: list[House] = []

    async def __call__(
        self, settings: Settings | None = None, authenticators: Authenticators | None = None
    ) -> House:
        settings = settings or Settings()
        house = House(settings, authenticators)
        self._made.append(house)
        await house.open(settings)
        return house

    async def close(self) -> None:
        for house in self._made:
            await house.close()


@pytest_twisted.async_yield_fixture
async def houses(tmp_path: Path) -> Any:
    """Provide a factory of houses: `await houses(Settings(…))`."""
    made = Houses(tmp_path)
    yield made
    await made.close()
