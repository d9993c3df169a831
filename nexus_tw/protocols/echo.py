"""The echo dialect, for conformance tests: the production transport with a session that returns each message."""

from __future__ import annotations

from nexus_tw.interfaces.sessions import Link
from nexus_tw.model.errors import Close
from nexus_tw.model.policy import Principal
from nexus_tw.protocols import frames


class EchoSession:
    """Sends each message back, text as text and binary as binary, on the same path as events."""

    __slots__ = ("_link",)

    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    def peer(self) -> None:
        return None

    client = peer

    def begin(self) -> None:
        pass

    def received(self, payload: bytes, is_binary: bool) -> None:
        self._link.write(frames.binary(payload) if is_binary else frames.text(payload))

    def broken(self, _payload: bytes) -> None:
        pass

    def farewell(self, _close: Close) -> bytes:
        return b""

    def overran(self) -> None:
        pass

    def end(self) -> None:
        pass


class EchoDialect:
    """Makes echo sessions; sends nothing before a close, since the conformance suite expects only echoes."""

    heartbeat = frames.frame(frames.PING, b"")
    introduces = False

    def session(self, link: Link, _principal: Principal | None, _address: str) -> EchoSession:
        return EchoSession(link)

    def farewell(self, _close: Close) -> bytes:
        return b""
