"""The canary's rules, by the clock."""

from __future__ import annotations

from collections.abc import Iterator

import hiredis
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from nexus_tw.bus.redis.channels import Source
from nexus_tw.bus.redis.connection import Unreachable
from nexus_tw.bus.redis.link import PATIENCE, Link

CANARY = b"nexus:canary:one"


class Linked:
    """A link whose two connections end in this test."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.ended: list[str] = []
        self.link = Link(self.clock, CANARY, "token", lambda channel, payload: None, self.ended.append)
        self.transports = StringTransport(), StringTransport()
        self.link.publisher.makeConnection(self.transports[0])
        self.link.subscriber.makeConnection(self.transports[1])

    def published(self) -> Iterator[tuple[bytes, bytes]]:
        """Channel and payload of what was published since the last time."""
        reader = hiredis.Reader()
        reader.feed(self.transports[0].value())
        self.transports[0].clear()
        while (words := reader.gets()) is not False:
            yield words[1], words[2]

    def canaries_return(self) -> int:
        """Redis does its work; how many canaries there were."""
        canaries = [payload for channel, payload in self.published() if channel == CANARY]
        for payload in canaries:
            self.link.publisher.dataReceived(b":1\r\n")
            self.link.returned(payload)
        return len(canaries)

    @property
    def dropped(self) -> bool:
        return all(transport.disconnecting for transport in self.transports)


def test_a_canary_flies_every_second_and_must_be_back_in_three() -> None:
    """One a second while they come back; the first that does not ends the link three seconds after it was sent."""
    linked = Linked()
    linked.link.watch()
    for _ in range(10):
        linked.clock.advance(0)
        assert linked.canaries_return() == 1
        linked.clock.advance(1)
    linked.clock.pump([0, 1, 1, 0.9])
    assert not linked.ended
    linked.clock.advance(0.1)
    assert linked.ended == ["a message to itself did not come back within 3 s"]
    assert linked.dropped
    assert not linked.clock.getDelayedCalls()


def test_a_canary_that_comes_late_is_enough() -> None:
    """Just before the three seconds are over it counts, and the next one has three seconds again."""
    linked = Linked()
    linked.link.watch()
    for _ in range(5):
        linked.clock.pump([0, 1, 1, 0.9])
        assert linked.canaries_return() == 1
        linked.clock.advance(0.1)
    assert not linked.ended


def test_a_pause_of_this_process_ends_nothing() -> None:
    """After a stand-still of any length what has arrived is read before it is judged."""
    linked = Linked()
    linked.link.watch()
    linked.clock.advance(0)
    linked.clock.rightNow += 60
    linked.clock.advance(0)
    assert not linked.ended
    assert linked.canaries_return() == 1
    linked.clock.advance(1)
    assert not linked.ended


def test_only_this_links_own_canary_counts() -> None:
    """What somebody else sends on the channel, or what an earlier link has sent, proves nothing."""
    linked = Linked()
    proven = Deferred.fromCoroutine(linked.link.prove())
    linked.clock.advance(0)
    linked.link.returned(b"other 1")
    linked.link.returned(b"")
    assert not proven.called
    assert linked.canaries_return() == 1
    assert proven.called


def test_whoever_waits_is_told_when_the_link_ends() -> None:
    """The reason reaches the listener first, then those who wait; and nothing can be asked of the link any more."""
    linked = Linked()
    stood: list[str] = []
    source = Source((b"nexus:nodes",), False)
    waiting = Deferred.fromCoroutine(linked.link.subscribe([(source, lambda: stood.append(*linked.ended))]))
    linked.link.publisher.put(b"x", lambda reply: stood.append(linked.ended[0] + reply.code))
    linked.link.subscriber.connectionLost(Failure(ConnectionLost()))
    reason = "Connection to the other side was lost in a non-clean fashion."
    assert linked.ended == [reason]
    assert sorted(stood) == [reason, reason + "bus_unavailable"]
    with pytest.raises(Unreachable, match="non-clean"):
        _result(waiting)
    with pytest.raises(Unreachable, match="non-clean"):
        _result(Deferred.fromCoroutine(linked.link.prove()))
    linked.link.end("again")
    assert linked.ended == [reason]
    assert not linked.clock.getDelayedCalls()


def test_a_server_that_confirms_nothing_is_given_up() -> None:
    """Waiting ends after three seconds, and the link with it."""
    linked = Linked()
    waiting = Deferred.fromCoroutine(linked.link.subscribe([]))
    linked.clock.advance(PATIENCE)
    with pytest.raises(Unreachable, match="no answer within 3 s"):
        _result(waiting)
    assert linked.dropped


def _result(deferred: Deferred[None]) -> None:
    failures: list[Failure] = []
    deferred.addErrback(failures.append)
    for failure in failures:
        failure.raiseException()
