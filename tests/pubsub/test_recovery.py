"""Recovery and cursors, case by case, on a bus whose history the test holds in its hands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from twisted.internet.task import Clock

from nexus_tw.bus.bounds import Bounds
from nexus_tw.interfaces.peers import Subscription
from nexus_tw.interfaces.realm import Placed, SubscribeReply, SubscribeRequest
from nexus_tw.model.errors import INTERNAL, NexusError
from nexus_tw.model.events import Event, EventMetadata, Rule, encode_metadata
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.positions import Position
from nexus_tw.model.settings import History, Kept, Limits
from nexus_tw.presence.sessions import Roster
from nexus_tw.pubsub.arriving import Arrivals
from nexus_tw.pubsub.cursors import Cursors
from nexus_tw.pubsub.filling import AGAIN, TRIES
from nexus_tw.pubsub.hub import Hub
from nexus_tw.pubsub.reading import Reads
from nexus_tw.pubsub.recorders import Recorders
from nexus_tw.pubsub.replay import PATIENCE, PAUSE, STEP
from nexus_tw.pubsub.service import PubSub
from nexus_tw.runtime.spread import Spread
from nexus_tw.runtime.turn import Turn
from tests.fleet.pretend import alone
from tests.pubsub.history_bus import HistoryBus
from tests.recording import RecordingEncoding, RecordingPeer


class Counting(RecordingEncoding):
    """Counts what it encodes."""

    def __init__(self) -> None:
        super().__init__("counting")
        self.encoded = 0

    def event(self, event: Event, subscription: Subscription) -> bytes:
        self.encoded += 1
        return super().event(event, subscription)


class World:
    def __init__(self, history: History | None = None) -> None:
        self.clock = Clock()
        self.bus = HistoryBus()
        self.past = self.bus.past
        self.metrics = Metrics()
        self.spread = Spread(self.clock)
        self.pubsub = PubSub(
            self.bus,
            alone(),
            Turn(self.clock).add,
            self.clock,
            self.spread,
            Limits(),
            self.metrics,
            history or History(),
            Roster(),
            tuple,
        )
        self.bus.listener = self.pubsub.listener
        self.said: list[Any] = []

    def subscribe(self, peer: RecordingPeer, *events: str, since: dict[str, str] | None = None, **filters: Any) -> None:
        request = SubscribeRequest(events, filters or None, since)
        self.pubsub.subscriptions.subscribe(peer, peer.principal, request, SubscribeReply(self._placed, self._failed))

    def _placed(self, placed: Placed) -> None:
        positions = placed.positions
        told = None if positions is None else {name: place.text for name, place in positions.items()}
        self.said.append((told, placed.recovered))

    def _failed(self, error: NexusError) -> None:
        self.said.append(error.code)

    def put(self, event_type: str, *data: bytes, metadata: bytes = b"") -> None:
        for each in data:
            self.bus.put(event_type, each, metadata)

    def turn(self) -> None:
        for _ in range(8):
            self.clock.advance(0)
            self.bus.arrive()

    def told(self, peer: RecordingPeer) -> list[Any]:
        self.turn()
        lines = b"".join(peer.delivered).splitlines()
        peer.delivered.clear()
        return [msgspec.json.decode(line) if line.startswith(b"{") else line.decode() for line in lines]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def peer() -> RecordingPeer:
    return RecordingPeer()


def gap(event_type: str, position: str | None = None, recovered: bool = False) -> dict[str, Any]:
    at = {} if position is None else {"position": position}
    return {"type": "continuity", "eventType": event_type, "recovered": recovered, **at}


# --- recovery


def test_a_thousand_who_come_back_to_one_position_cost_one_read_and_each_event_is_encoded_once(world: World) -> None:
    world.put("a", *(b"%d" % number for number in range(500)))
    encoding = Counting()
    peers = [RecordingPeer(encoding=encoding) for _ in range(1000)]
    for peer in peers:
        world.subscribe(peer, "a", since={"a": "t0.a:0"})
    for _ in range(100):
        world.clock.advance(0)
    assert [list(each) for each in world.past.reads] == [[("a", Position("t0.a", 0))]]
    expected = b"".join(b"a %d\n" % number for number in range(500))
    assert all(b"".join(peer.delivered) == expected for peer in peers)
    assert encoding.encoded == 500 and world.metrics.events_replayed == 500_000
    assert world.metrics.recovery_buffered == 0


def test_different_positions_of_one_turn_are_one_question(world: World) -> None:
    world.put("a", *(b"%d" % number for number in range(9)))
    peers = [RecordingPeer() for _ in range(9)]
    for number, peer in enumerate(peers):
        world.subscribe(peer, "a", since={"a": f"t0.a:{number}"})
    world.turn()
    assert len(world.past.reads) == 1 and len(world.past.reads[0]) == 9
    assert [len(world.told(peer)) for peer in peers] == [9, 8, 7, 6, 5, 4, 3, 2, 1]


def test_one_that_is_ahead_of_this_node_gets_nothing_twice(world: World, peer: RecordingPeer) -> None:
    """Its last node was faster."""
    other = RecordingPeer()
    world.subscribe(other, "a")
    world.put("a", b"1", b"2", b"3")
    world.bus.live.clear()
    world.subscribe(peer, "a", since={"a": "t0.a:2"})
    assert world.told(peer) == ["a 3"] and world.told(other) == ["a 1", "a 2", "a 3"]
    world.put("a", b"4")
    assert world.told(peer) == world.told(other) == ["a 4"]


def test_an_event_that_is_not_for_the_one_who_comes_back_is_not_replayed(world: World, peer: RecordingPeer) -> None:
    rule = encode_metadata(EventMetadata(1, rule=Rule(exclude_authid=frozenset([peer.principal.subject]))))
    world.put("a", b"1")
    world.put("a", b"2", metadata=rule)
    world.put("a", b"3", metadata=b"what nobody can read")
    world.put("a", b"4")
    world.subscribe(peer, "a", since={"a": "t0.a:0"})
    assert world.told(peer) == ["a 1", gap("a", "t0.a:3"), "a 4"]


def test_one_who_does_not_read_is_waited_for_and_what_passes_meanwhile_follows(world: World, peer: RecordingPeer) -> None:
    event = b"1".ljust(STEP)
    world.put("a", event, event)
    peer.left = STEP
    world.subscribe(peer, "a", since={"a": "t0.a:0"})
    world.turn()
    assert world.said == [({"a": "t0.a:0"}, {"a": True})] and peer.delivered == []
    world.put("a", b"2")
    world.turn()
    assert peer.delivered == [] and world.metrics.recovery_buffered > 2 * STEP
    peer.left = 1 << 30
    world.clock.advance(PAUSE)
    assert [line.split()[-1] for line in world.told(peer)] == ["1", "1", "2"]
    world.put("a", b"3")
    assert world.told(peer) == ["a 3"] and world.metrics.recovery_buffered == 0


def test_one_who_never_reads_gets_it_all_the_same_after_a_while(world: World, peer: RecordingPeer) -> None:
    """Its queue then ends it."""
    world.put("a", b"1".ljust(STEP))
    peer.left = 0
    world.subscribe(peer, "a", since={"a": "t0.a:0"})
    for _ in range(PATIENCE):
        assert peer.delivered == []
        world.clock.advance(PAUSE)
    world.clock.advance(PAUSE)
    assert len(world.told(peer)) == 1


def test_one_that_goes_while_it_recovers_leaves_nothing(world: World, peer: RecordingPeer) -> None:
    world.put("a", b"1".ljust(STEP))
    peer.left = 0
    world.subscribe(peer, "a", since={"a": "t0.a:0"})
    world.turn()
    world.pubsub.subscriptions.gone(peer)
    world.clock.advance(PAUSE)
    world.turn()
    assert peer.delivered == [] and world.bus.subscribed == set()
    assert (world.metrics.recovery_buffered, world.metrics.cursors) == (0, 0)


def test_one_whose_replay_fails_is_closed_and_leaves_nothing(
    world: World, peer: RecordingPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_size: int) -> bool:
        raise ValueError("broken")

    monkeypatch.setattr(peer, "room", fail)
    world.put("a", b"1")
    world.subscribe(peer, "a", since={"a": "t0.a:0"})
    world.turn()
    assert peer.closed == [INTERNAL] and peer.delivered == []
    world.pubsub.subscriptions.gone(peer)
    assert world.bus.subscribed == set()
    assert (world.metrics.recovery_buffered, world.metrics.cursors) == (0, 0)


def test_of_too_many_types_a_plain_subscriber_gets_no_positions_and_one_that_recovers_is_refused(
    world: World, peer: RecordingPeer
) -> None:
    world.past.most = 2
    for name in "abc":
        world.put(name, b"1")
    world.subscribe(peer, "*")
    world.subscribe(RecordingPeer(), "*", since={"a": "t0.a:1"})
    assert world.said == [({}, None), "limit_exceeded"]
    world.put("a", b"2")
    assert world.told(peer) == ["a 2"]


def test_while_the_bus_is_away_a_plain_subscriber_is_taken_and_its_position_follows(world: World, peer: RecordingPeer) -> None:
    world.put("a", b"1")
    world.bus.lose()
    world.subscribe(peer, "a", "b.*")
    world.subscribe(RecordingPeer(), "a", since={"a": "t0.a:1"})
    assert world.said == [(None, None), "bus_unavailable"]
    world.put("b.x", b"1")
    world.bus.restore()
    assert sorted(world.told(peer), key=str) == [gap("a", "t0.a:1"), gap("b.*"), gap("b.x", "t0.b.x:1")]


def test_a_type_without_history_is_not_recovered_and_its_loss_is_told(peer: RecordingPeer) -> None:
    world = World(History(patterns={"bare.*": Kept(count=0)}))
    world.past.none.add("bare.x")
    world.subscribe(peer, "bare.x", "bare.*")
    world.put("bare.x", b"1")
    assert world.told(peer) == ["bare.x 1"]
    world.bus.lose()
    world.put("bare.x", b"2")
    world.bus.restore()
    told = world.told(peer)
    assert gap("bare.x") in told and gap("bare.*") in told and all(not isinstance(each, str) for each in told)


# --- cursors


def test_a_gap_is_filled_for_everybody_before_what_came_after_it(world: World) -> None:
    peers = [RecordingPeer(), RecordingPeer()]
    world.subscribe(peers[0], "a")
    world.subscribe(peers[1], "*")
    world.past.at_once = False
    world.put("a", b"1", b"2", b"3", b"4")
    del world.bus.live[1]
    world.bus.arrive()
    world.put("a", b"5")
    world.turn()
    assert [b"".join(peer.delivered) for peer in peers] == [b"a 1\n"] * 2
    world.past.settle()
    assert [world.told(peer) for peer in peers] == [["a 1", "a 2", "a 3", "a 4", "a 5"]] * 2
    assert (world.metrics.gaps_filled, world.metrics.gaps_told, world.metrics.recovery_buffered) == (1, 0, 0)


def test_what_is_gone_is_told_and_what_is_in_hand_is_delivered(world: World, peer: RecordingPeer) -> None:
    world.subscribe(peer, "a")
    world.put("a", b"1", b"2", b"3", b"4")
    world.past.trim("a", 3)
    del world.bus.live[1]
    assert world.told(peer) == ["a 1", gap("a", "t0.a:2"), "a 3", "a 4"]


def test_what_comes_twice_or_late_is_delivered_once(world: World, peer: RecordingPeer) -> None:
    world.subscribe(peer, "a")
    world.put("a", b"1", b"2")
    live = list(world.bus.live)
    world.bus.live.extend([live[0], live[1], live[0]])
    assert world.told(peer) == ["a 1", "a 2"]


def test_if_too_much_waits_the_history_is_read_once_more(world: World, peer: RecordingPeer) -> None:
    world.subscribe(peer, "a")
    world.past.at_once = False
    world.pubsub.cursors.filler._room = 2000
    world.put("a", *(b"%d" % number for number in range(1, 20)))
    world.bus.live.popleft()
    world.turn()
    assert world.metrics.recovery_overflows == 1
    for _ in range(3):
        world.past.settle()
        world.turn()
    assert world.told(peer) == [f"a {number}" for number in range(1, 20)]


def test_a_history_that_cannot_be_read_is_asked_again_and_then_the_gap_is_told(world: World, peer: RecordingPeer) -> None:
    world.subscribe(peer, "a")
    world.put("a", b"1", b"2", b"3")
    del world.bus.live[1]
    world.past.available = False
    assert world.told(peer) == ["a 1"]
    for _ in range(TRIES):
        world.clock.advance(AGAIN)
        world.turn()
    assert world.told(peer) == [gap("a")]
    world.past.available = True
    world.put("a", b"4")
    assert world.told(peer)[-1] == "a 4"


@pytest.mark.parametrize(
    ("history", "after"),
    [(History(count=20), 5), (History(bytes=40), 3), (History(age=4), 4)],
    ids=["count", "bytes", "age"],
)
def test_those_with_filters_are_told_where_they_are_after_a_quarter_of_the_history(history: History, after: int) -> None:
    world = World(history)
    picky, plain, both = [RecordingPeer() for _ in range(3)]
    world.subscribe(picky, "a", n=1)
    world.subscribe(plain, "*")
    world.subscribe(both, "a", n=1)
    world.subscribe(both, "*")
    for _ in range(after):
        world.clock.advance(0.25)
        world.put("a", b"1000")
        world.turn()
    assert world.told(picky) == [gap("a", f"t0.a:{after}", recovered=True)]
    assert world.told(plain) == world.told(both) == ["a 1000"] * after


def test_beyond_the_bound_the_cursor_not_used_for_longest_is_forgotten() -> None:
    clock, metrics, bus = Clock(), Metrics(), HistoryBus()
    waiting: list[Callable[[], None]] = []
    hub = Hub(waiting.append, metrics, clock.seconds)
    spread = Spread(clock)
    cursors = Cursors(
        bus,
        hub,
        Arrivals(hub, {}, Roster(), metrics),
        Reads(bus, waiting.append),
        Recorders(metrics),
        spread,
        clock,
        Bounds(History()),
        metrics,
        most=3,
    )
    for name in "abc":
        cursors.place(name, Position("e", 0)).used = name != "b"
    whole = [cursors.whole]
    cursors.place("d", Position("e", 0))
    whole.append(cursors.whole)
    assert {cursor.event_type for cursor in cursors} == {"a", "c", "d"} and metrics.cursors == 3
    assert whole == [True, False]


def test_a_change_of_epoch_without_a_loss_is_told_as_that(world: World, peer: RecordingPeer) -> None:
    world.subscribe(peer, "a")
    world.put("a", b"1")
    assert world.told(peer) == ["a 1"]
    world.bus.lose()
    world.past.restart("t1")
    world.bus.restore()
    assert world.told(peer) == [gap("a", "t1.a:1", recovered=True)]
    world.put("a", b"2")
    assert world.told(peer) == ["a 2"]


def test_after_a_lost_link_all_types_are_asked_for_at_once_and_only_those_that_moved_are_read(world: World) -> None:
    peer = RecordingPeer()
    world.subscribe(peer, *(f"a.{number}" for number in range(20)))
    world.bus.lose()
    world.put("a.3", b"1", b"2")
    world.put("a.7", b"1")
    world.past.reads.clear()
    world.bus.restore()
    assert sorted(world.told(peer)) == ["a.3 1", "a.3 2", "a.7 1"]
    assert [[name for name, _ in read] for read in world.past.reads] == [["a.3", "a.7"]]
