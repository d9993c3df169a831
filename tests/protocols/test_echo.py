from __future__ import annotations

from nexus_tw.model.errors import SHUTTING_DOWN
from nexus_tw.protocols.echo import EchoDialect
from tests.protocols.link import RecordingLink
from tests.recording import principal


def test_each_message_comes_back_in_kind() -> None:
    link = RecordingLink()
    session = EchoDialect().session(link, principal(), "127.0.0.1")
    session.begin()
    session.received(b"text", False)
    session.received(b"\xff", True)
    session.broken(b"")
    session.end()
    assert link.written == [b"\x81\x04text", b"\x82\x01\xff"]


def test_nothing_but_echoes_is_sent() -> None:
    dialect = EchoDialect()
    assert dialect.farewell(SHUTTING_DOWN) == b""
    assert dialect.heartbeat == b"\x89\x00"
    session = dialect.session(RecordingLink(), principal(), "127.0.0.1")
    assert session.peer is None
    assert session.farewell(SHUTTING_DOWN) == b""
