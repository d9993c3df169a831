"""Pages of the history: rights, recipients, and where a page ends."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from nexus_tw.bus import open_bus
from nexus_tw.interfaces.plugins import IBus
from nexus_tw.interfaces.realm import HistoryPage, HistoryRequest
from nexus_tw.model.errors import NexusError
from nexus_tw.model.events import EventMetadata, Rule, encode_metadata
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.policy import Principal
from nexus_tw.model.positions import Position
from nexus_tw.model.settings import History, Kept, Role
from nexus_tw.pubsub.pages import BYTES, Pages
from nexus_tw.pubsub.walks import BATCH
from tests.recording import RecordingPeer, principal


class World:
    """A memory bus, and a reader of its pages."""

    def __init__(self, history: History | None = None) -> None:
        self.clock = Clock()
        history = history or History(patterns={"off.*": Kept(count=0)})
        self.bus: Any = open_bus("memory:", self.clock, Metrics(), "one", history=history)
        self.bus.available = True
        self.reader = RecordingPeer(who=principal("reader"))

    def publish(self, event_type: str, data: bytes, **metadata: Any) -> Position:
        about = encode_metadata(EventMetadata(1, **metadata)) if metadata else b""
        taken: list[Position] = []
        self.bus.publish(event_type, data, taken.append, about)
        self.clock.advance(0)
        return taken[0]

    def page(
        self,
        event_type: str = "a",
        since: Position | None = None,
        limit: int = 10,
        who: Principal | None = None,
    ) -> HistoryPage | NexusError:
        answers: list[HistoryPage | NexusError] = []
        request = HistoryRequest(event_type, since, limit)
        Pages(self.bus, self.clock).read(self.reader, who or self.reader.principal, request, answers.append, answers.append)
        self.clock.pump([0] * 8)
        (answer,) = answers
        return answer

    def data(self, **words: Any) -> tuple[list[bytes], int]:
        page = self.page(**words)
        assert isinstance(page, HistoryPage)
        return [past.event.payload.data for past in page.events], page.position.offset


def code(answer: HistoryPage | NexusError) -> str:
    assert isinstance(answer, NexusError)
    return answer.code


def test_pages_follow_each_other_without_a_gap_and_the_last_one_ends_at_the_newest_event() -> None:
    world = World()
    for number in range(5):
        world.publish("a", b"%d" % number)
    first = world.page(limit=2)
    assert isinstance(first, HistoryPage)
    assert [past.event.position and past.event.position.offset for past in first.events] == [1, 2]
    assert world.data(since=first.position, limit=2) == ([b"2", b"3"], 4)
    assert world.data(since=Position(first.position.epoch, 4), limit=2) == ([b"4"], 5)
    assert world.data(since=Position(first.position.epoch, 5)) == ([], 5)


def test_what_is_gone_is_said_and_nothing_is_given_instead() -> None:
    world = World(History(count=2))
    for number in range(4):
        top = world.publish("a", b"%d" % number)
    page = world.page(since=Position(top.epoch, 1))
    assert page == HistoryPage([], top, False)
    assert world.data() == ([b"2", b"3"], 4)


def test_events_restricted_to_others_are_left_out_and_do_not_shorten_a_page() -> None:
    world = World()
    for number in range(2 * BATCH):
        world.publish("a", b"%d" % number, rule=Rule(eligible_authid=frozenset({"reader" if number % BATCH == 5 else "other"})))
    world.publish("a", b"last")
    assert world.data(limit=2) == ([b"5", b"%d" % (BATCH + 5)], BATCH + 6)
    assert world.data(limit=4) == ([b"5", b"%d" % (BATCH + 5), b"last"], 2 * BATCH + 1)


def test_an_answer_is_bounded_in_bytes_unless_it_is_one_event() -> None:
    world = World(History(bytes=3 * BYTES))
    for _ in range(2):
        world.publish("a", b'"%b"' % (b"x" * BYTES))
    assert world.data(limit=1)[1] == 1
    refused = world.page(limit=2)
    assert isinstance(refused, NexusError)
    assert (refused.code, refused.message) == (
        "limit_exceeded",
        f"limit: the events have more than {BYTES} bytes together; ask for fewer",
    )


def test_a_session_that_the_publisher_excluded_gets_nothing_from_the_past_either() -> None:
    world = World()
    world.publish("a", b"1", rule=Rule(exclude=(world.reader.number,)))
    world.publish("a", b"2", rule=Rule(eligible=(world.reader.number,)))
    assert world.data() == ([b"2"], 2)


def test_encrypted_payloads_are_left_out() -> None:
    world = World()
    world.publish("a", b'{"args": [], "kwargs": {}}', options={"ppt_scheme": "x_own"}, shape="pair")
    assert world.data() == ([], 1)


def test_an_event_that_cannot_be_decoded_is_left_out() -> None:
    world = World()
    world.bus.publish("a", b"1", lambda _taken: None, b"no metadata")
    world.publish("a", b"2")
    assert world.data() == ([b"2"], 2)


@pytest.mark.parametrize("event_type", ["b", "nexus.x", "a..b"])
def test_the_right_to_subscribe_is_needed(event_type: str) -> None:
    world = World()
    who = principal("limited", Role(subscribe=("a",)))
    assert code(world.page(event_type, who=who)) == ("invalid_message" if event_type == "a..b" else "forbidden")
    assert isinstance(world.page("a", who=who), HistoryPage)


def test_a_type_without_history_is_not_one_without_events() -> None:
    world = World()
    assert world.data(event_type="unknown") == ([], 0)
    world.publish("off.a", b"1")
    refused = world.page("off.a")
    assert isinstance(refused, NexusError)
    assert (refused.code, refused.uri) == ("not_found", "wamp.error.history_unavailable")
    assert code(world.page("off.a", Position("e", 3))) == "not_found"
    assert code(World(History(count=0)).page()) == "not_found"


def test_while_the_bus_is_away_nobody_can_tell() -> None:
    world = World()
    bus: IBus = world.bus
    bus.available = False
    assert code(world.page()) == "bus_unavailable"
