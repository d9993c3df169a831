"""A fleet over the memory bus: who joins, who is buried, who is fenced."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer

from nexus_tw.bus.bounds import MAX_NODES
from nexus_tw.fleet.fleet import BusFleet
from nexus_tw.interfaces.fleet import PATIENCE, Fleet, Part
from nexus_tw.interfaces.plugins import Burial
from nexus_tw.model.metrics import Metrics
from nexus_tw.runtime.turn import Turn
from tests.fakes import HandBus
from tests.fleet.pretend import Pretended
from tests.fleet.world import Recording, World


def silent(world: World) -> None:
    """Forget the calls of all parts so far."""
    for node in world.nodes.values():
        node.part.take()


def test_fleets_and_parts_have_the_shape_that_the_interface_asks_for() -> None:
    """So what is tested with a pretended fleet fits the real one (mypy reads these lines)."""
    fleets: list[Fleet] = [World("a")["a"].fleet, Pretended().node("a")]
    parts: list[Part] = [Recording(fleet) for fleet in fleets]
    assert len(parts) == 2


def test_nodes_join_each_other_and_tell() -> None:
    """Three nodes know each other within a second, and what is told arrives in order."""
    world = World("a", "b", "c")
    assert {name: set(node.fleet.members) for name, node in world.nodes.items()} == {
        "a": {"b", "c"},
        "b": {"a", "c"},
        "c": {"a", "b"},
    }
    assert sorted(world["a"].part.take()) == [("joined", "b"), ("joined", "c")]
    for number in range(10):
        world["a"].fleet.tell(None, "part", b"%d" % number)
    world["a"].fleet.tell("b", "part", b"b only")
    world.run()
    assert world["b"].part.got == {"a": [*(b"%d" % number for number in range(10)), b"b only"]}
    assert world["c"].part.got == {"a": [b"%d" % number for number in range(10)]}


def test_a_dead_node_is_buried_once() -> None:
    """Six seconds after a node's last beat one of the others is its heir, and all others are told."""
    world = World("a", "b", "c")
    silent(world)
    world.kill("c")
    world.run(5.0)
    assert world["a"].part.take() == world["b"].part.take() == []
    world.run(3.0)
    assert sorted([*world["a"].part.take(), *world["b"].part.take()]) == [("left", "c"), ("left", "c", "heir")]
    assert world["a"].metrics.fleet_burials + world["b"].metrics.fleet_burials == 1


def test_a_node_that_stands_still_is_silent_until_it_goes_on() -> None:
    world = World("a", "b", "c")
    world.stop("b")
    world.run(1.0)
    assert not world["a"].fleet.silent("b")
    world.run(2.9)
    assert world["a"].fleet.silent("b") and not world["a"].fleet.silent("c")
    assert world["a"].fleet.silent("never seen")
    world.resume("b")
    world.run(2.1)
    assert "b" in world["a"].fleet.members and not world["a"].fleet.silent("b")


def test_a_stopped_node_notices_and_comes_back_under_another_name() -> None:
    world = World("a", "b")
    silent(world)
    world.stop("b")
    world.run(30.0)
    assert world["a"].part.take() == [("left", "b", "heir")]
    world.resume("b", mail_first=True)
    assert world["b"].part.calls[0] == ("fenced",)
    world.run(1.1)
    assert world["b"].part.take() == [("fenced",), ("left", "a"), ("renewed", "b.2"), ("joined", "a")]
    assert world["a"].part.take() == [("joined", "b.2")]
    assert world["b"].fleet.node == "b.2"


def test_a_farewell_is_heard_within_a_turn() -> None:
    world = World("a", "b", "c")
    silent(world)
    world["c"].stop()
    world.run()
    assert sorted([*world["a"].part.take(), *world["b"].part.take()]) == [("left", "c"), ("left", "c", "heir")]


def test_lost_data_is_put_there_again_under_the_same_name() -> None:
    world = World("a", "b")
    silent(world)
    world.broker.roll.clear()
    world.run(10)
    assert world["a"].part.take() == [("renewed", "a")]
    assert world["b"].part.take() == [("renewed", "b")]


def test_all_nodes_are_asked() -> None:
    world = World("a", "b", "c")
    answers: list[dict[str, bytes]] = []
    world["a"].fleet.ask(None, "part", b"?", lambda found: answers.append(dict(found)))
    world.run()
    assert answers == [{"a": b"a ?", "b": b"b ?", "c": b"c ?"}]


def test_an_heir_that_dies_passes_its_legacy_on() -> None:
    """What was not taken over in full is taken over again by the next heir, with what the first heir was doing itself."""
    world = World("a", "b", "c", "d")
    silent(world)
    for node in world.nodes.values():
        node.part.holds = True
    world.kill("d")
    world.run(8)
    (heir,) = (name for name, node in world.nodes.items() if ("left", "d", "heir") in node.part.take())
    world.kill(heir)
    world.run(8)
    second = [(name, call) for name, node in world.nodes.items() for call in node.part.take() if call[2:]]
    assert {call for _, call in second} == {("left", "d", "heir"), ("left", heir, "heir")}
    assert len(second) == 2 and len({name for name, _ in second}) == 1
    (left,) = world.nodes.keys() - {second[0][0]}
    last = world[second[0][0]]
    last.part.held["d"]()
    last.part.held["d"]()
    world.run(2)
    world.kill(last.fleet.node)
    world.run(8)
    assert world[left].part.take() == [("left", last.fleet.node, "heir"), ("left", heir, "heir")]
    for release in world[left].part.held.values():
        release()
    world.run(1.1)
    assert list(world.broker.roll.beat(left, ()).legacy) == []  # type: ignore[union-attr]


def test_a_part_that_takes_over_at_once_leaves_nothing() -> None:
    world = World("a", "b")
    world.kill("b")
    world.run(8)
    assert list(world.broker.roll.beat("a", ()).legacy) == []  # type: ignore[union-attr]
    assert world["a"].fleet.hold("b")() is None  # too late, and without effect


def test_a_pause_of_this_node_counts_against_nobody() -> None:
    """Whoever stands still itself cannot say how long others were silent; it does not bury those who went on."""
    world = World("a", "b")
    silent(world)
    for name in ("a", "b"):
        world.stop(name)
    world.run(30)
    world.resume("a")
    world.run(4)
    world.resume("b")
    world.run(20)
    assert world["a"].part.take() == world["b"].part.take() == [("fenced",)]
    assert set(world["a"].fleet.members) == {"b"}


@pytest.mark.parametrize("seconds", [2.5, 5.9, 60.0])
def test_an_outage_of_the_bus_buries_nobody(seconds: float) -> None:
    world = World("a", "b")
    silent(world)
    for node in world.nodes.values():
        node.bus.lose()
    world.run(seconds)
    world["a"].bus.restore()
    world.run(1)
    world["b"].bus.restore()
    world.run(20)
    expected = [("fenced",)] if seconds > 4 else []
    assert world["a"].part.take() == world["b"].part.take() == expected


def test_a_node_cut_off_is_fenced_before_it_is_buried() -> None:
    """Four seconds after its last beat, once; the others bury it at six at the earliest."""
    world = World("a", "b")
    silent(world)
    world["b"].bus.lose()
    world.run(2.9)
    assert world["b"].part.take() == []
    world.run(1.1)
    assert world["b"].part.take() == [("fenced",)]
    assert world["a"].part.take() == []
    world.run(30)
    assert world["b"].part.take() == []
    assert world["a"].part.take() == [("left", "b", "heir")]
    assert world["b"].metrics.fleet_fencings == 1


def test_a_fenced_node_that_was_not_buried_goes_on_under_its_name() -> None:
    world = World("a", "b")
    silent(world)
    world["b"].bus.lose()
    world.run(4.5)
    world["b"].bus.restore()
    world.run(20)
    assert (world["a"].part.take(), world["b"].part.take()) == ([], [("fenced",)])
    world["b"].bus.lose()
    world.run(4.5)
    assert world["b"].part.take() == [("fenced",)]


def test_a_stopped_node_notices_before_it_tells_anything() -> None:
    """Whatever runs first after a long stop: nothing is told, asked or answered before the parts know."""
    for first in ("tell", "room", "ask"):
        world = World("a", "b")
        silent(world)
        world.stop("b")
        world.run(30)
        node = world["b"]
        node.clock.rightNow = world.clock.seconds()
        if first == "tell":
            node.fleet.tell(None, "part", b"")
        elif first == "room":
            node.fleet.room("a", 1)
        else:
            node.fleet.ask([], "part", b"", lambda _: None)
        assert node.part.take() == [("fenced",)]


def test_a_node_given_up_while_the_bus_lost_its_data_does_not_come_back_under_its_name() -> None:
    """Redis knows nothing of the burial any more, but those who were there do."""
    world = World("a", "b")
    silent(world)
    world.stop("b")
    world.run(10)
    assert world["a"].part.take() == [("left", "b", "heir")]
    world.broker.roll.clear()
    world.run(2)
    world.resume("b")
    world.run(4)
    assert world["b"].fleet.node == "b.2"
    assert set(world["a"].fleet.members) == {"b.2"}
    assert ("joined", "b") not in world["a"].part.take()


def test_a_node_that_comes_later_is_told_and_inherits_from_the_dead() -> None:
    world = World("a")
    world.kill("a")
    world.add("b")
    world.run(8)
    assert world["b"].part.take() == [("left", "a", "heir")]
    world.add("c")
    world.run()
    assert (world["b"].part.take(), world["c"].part.take()) == ([("joined", "c")], [("joined", "b")])


def test_what_is_told_to_one_that_joins_arrives_first() -> None:
    """A part tells a new member what it has to know before anything else is told or received."""
    world = World("a")
    first = world["a"]
    first.part.on_joined = lambda node: first.fleet.tell(node, "part", b"all")
    second = world.add("b")
    second.part.on_joined = lambda node: second.fleet.tell(node, "part", b"mine")
    world.run()
    first.fleet.tell(None, "part", b"more")
    world.run()
    assert second.part.got == {"a": [b"all", b"more"]}
    assert first.part.got == {"b": [b"mine"]}


def test_a_part_that_fails_costs_the_others_nothing() -> None:
    world = World("a")

    class Broken(Recording):
        def joined(self, node: str) -> None:
            raise ValueError("on purpose")

    node = world["a"]
    broken, after = Broken(node.fleet), Recording(node.fleet)
    node.fleet.take_part("broken", broken)
    node.fleet.take_part("after", after)
    world.add("b")
    world.run()
    assert after.calls == [("joined", "b")]


def test_a_question_to_a_part_that_answers_none_or_is_not_there_is_counted() -> None:
    world = World("a", "b")
    world["b"].fleet.take_part("deaf", Recording(world["b"].fleet))
    answers: list[object] = []
    for name in ("deaf", "unknown"):
        world["a"].fleet.ask(["b"], name, b"?", answers.append)
    world.run(PATIENCE)
    assert answers == [{}, {}] and world["b"].metrics.mail_invalid == 2


def test_a_bus_without_a_roll_has_a_fleet_of_one() -> None:
    """No beats, no timers; questions are answered by the node itself."""
    clock, bus = Clock(), HandBus()
    fleet = BusFleet(bus, Turn(clock).add, clock, Metrics())
    part = Recording(fleet)
    fleet.take_part("part", part, part.asked)
    fleet.start()
    fleet.lost()
    fleet.restored()
    answers: list[dict[str, bytes]] = []
    fleet.ask(None, "part", b"?", lambda found: answers.append(dict(found)))
    fleet.tell(None, "part", b"nobody")
    assert answers == [{"node-1": b"node-1 ?"}]
    assert (clock.getDelayedCalls(), bus.sent, part.calls, dict(fleet.members)) == ([], [], [], {})
    fleet.stop()


def test_a_single_node_costs_a_beat_each_second_and_nothing_else() -> None:
    world = World("a")
    sent: list[bytes] = []

    def arrived(body: bytes) -> list[bytes]:
        sent.append(body)
        return [body]

    world["a"].bus.fate = arrived
    before = world.broker.roll._beats["a"]
    world.run(10.5)
    assert world.broker.roll._beats["a"] - before in (9, 10)  # the clock goes in steps
    assert sent == []
    assert len(world["a"].clock.getDelayedCalls()) == 2  # the next beat, and the fence


def test_a_stopped_fleet_leaves_no_timers() -> None:
    world = World("a", "b")
    answers: list[object] = []
    world["b"].part.silent = True
    world["a"].fleet.ask(["b"], "part", b"", answers.append)
    world["a"].stop()
    world.run()
    assert world["a"].clock.getDelayedCalls() == []
    assert answers == [{}]
    assert (world["a"].metrics.fleet_members, world["a"].metrics.mail_waiting_bytes) == (0, 0)


def test_a_node_that_cannot_be_buried_yet_is_tried_again() -> None:
    """The bus refuses the burial once: it follows with a later beat."""
    world = World("a", "b")
    silent(world)
    refused: list[str] = []
    bury = world.broker.roll.bury

    def refuse(node: str, beats: int | None, heir: str) -> Burial:
        refused.append(node)
        world.broker.roll.bury = bury  # type: ignore[method-assign]
        return Burial.REFUSED

    world.broker.roll.bury = refuse  # type: ignore[method-assign]
    world.kill("b")
    world.run(9)
    assert refused == ["b"]
    assert world["a"].part.take() == [("left", "b", "heir")]


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What the fleet says in the log."""
    lines: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event["log_namespace"].startswith("nexus_tw.fleet"):
            lines.append(f"{event['log_level'].name}: {formatEvent(event)}")

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


def test_what_is_said_of_a_fleet_names_its_realm(said: list[str]) -> None:
    world = World("a", "b")
    assert sorted(said) == ["info: Realm nexus: a has joined the fleet", "info: Realm nexus: b has joined the fleet"]
    world.kill("b")
    world.run(9)
    world["a"].bus.lose()
    world.run(5)
    world["a"].bus.restore()
    world.run(2)
    for body in (b"\0", b"\1"):
        world["a"].fleet.message(body)
    assert len(said) > 5 and all(line.partition(": ")[2].startswith("Realm nexus: ") for line in said)


def test_a_node_for_which_the_fleet_has_no_room_says_so_once_and_joins_when_there_is_some(said: list[str]) -> None:
    world = World("a")
    roll = world.broker.roll
    for number in range(MAX_NODES - 1):
        roll.beat(f"n{number}", ())
    node = world.add("b")
    world.run(5)
    why = "there are 1000 others, the most that there may be"
    assert said == [f"warn: Realm nexus: This node is not in the fleet, and tries each second: {why}"]
    world.run(8)
    assert "a" in node.fleet.members and "info: Realm nexus: The fleet has room for this node now, as b" in said
    assert sum("not in the fleet" in line for line in said) == 1
