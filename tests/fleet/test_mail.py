"""Mail over a bus that loses, repeats and delays messages, while links are cut, nodes stop, die and come back."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus_tw.fleet.envelopes import MARK, Envelope, Kind, Letter, Word, encode
from nexus_tw.interfaces.fleet import MAX_WAITING_BYTES, PATIENCE
from tests.fleet.world import Node, World


class Correspondence:
    """What was told, by the names of both when it was told, against what arrived."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.told: dict[tuple[str, str], list[bytes]] = {}
        self.number = 0

    def tell(self, sender: Node) -> None:
        """Tell all members."""
        self.number += 1
        body = b"%d" % self.number
        for member in sender.fleet.members:
            self.told.setdefault((sender.fleet.node, member), []).append(body)
        sender.fleet.tell(None, "part", body)

    def check(self) -> None:
        """What has arrived is a beginning of what was told, for each pair of names."""
        for name, node in self.world.nodes.items():
            for sender, got in node.part.got.items():
                # The part does not see under which of its own names it got it: each began anew.
                told = [bodies for (one, to), bodies in self.told.items() if one == sender and to.split(".")[0] == name]
                rest = list(got)
                for bodies in told:
                    count = 0
                    while rest and count < len(bodies) and rest[0] == bodies[count]:
                        rest.pop(0)
                        count += 1
                assert rest == [], (name, sender, got, told)

    def complete(self) -> None:
        """All that was told between the present names has arrived."""
        for node in self.world.nodes.values():
            for sender in self.world.nodes.values():
                told = self.told.get((sender.fleet.node, node.fleet.node), [])
                got = node.part.got.get(sender.fleet.node, [])
                assert got[len(got) - len(told) :] == told, (node.fleet.node, sender.fleet.node, got, told)


ACTIONS = ("tell", "run", "run", "second", "cut", "mend", "stop", "resume", "flush", "kill")
STEPS = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 2)), max_size=40)


def unreliable(chance: Random) -> Callable[[bytes], list[bytes]]:
    """Return a fate of messages: some are lost, some come twice, some late."""
    late: list[bytes] = []

    def fate(body: bytes) -> list[bytes]:
        if not body.startswith(MARK):
            return [body]
        drawn = chance.random()
        if drawn < 0.15:
            return []
        if drawn < 0.3:
            late.append(body)
            return []
        found, late[:] = [*([body] * (2 if drawn < 0.5 else 1)), *late], []
        return found

    return fate


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(0, 1 << 30))
def test_mail_arrives_once_and_in_order_whatever_happens(steps: list[tuple[str, int]], seed: int) -> None:
    """Over losses, repetitions, outages, pauses, burials and lost data: never twice, never out of order; in the end all."""
    world = World("a", "b", "c")
    chance = Random(seed)
    for node in world.nodes.values():
        node.bus.fate = unreliable(chance)
    letters = Correspondence(world)
    for action, number in steps:
        name = "abc"[number]
        if name not in world.nodes or (name in world.stopped and action != "resume"):
            continue
        node = world[name]
        if action == "tell":
            letters.tell(node)
        elif action == "run":
            world.run(0.1)
        elif action == "second":
            world.run(1.0 + 2 * number)
        elif action == "cut" and not node.bus.cut:
            node.bus.lose()
        elif action == "mend" and node.bus.cut:
            node.bus.restore()
        elif action == "stop":
            world.stop(name)
        elif action == "resume" and name in world.stopped:
            world.resume(name, mail_first=chance.random() < 0.5)
        elif action == "flush":
            world.broker.roll.clear()
        elif action == "kill" and len(world.nodes) > 2:
            world.kill(name)
        letters.check()
    for name, node in world.nodes.items():
        if name in world.stopped:
            world.resume(name)
        node.bus.fate = None
        if node.bus.cut:
            node.bus.restore()
    world.run(25, 0.25)
    names = {node.fleet.node for node in world.nodes.values()}
    for node in world.nodes.values():
        assert set(node.fleet.members) == names - {node.fleet.node}
        letters.tell(node)
    world.run(8, 0.25)
    letters.check()
    letters.complete()
    assert all(node.metrics.mail_waiting_bytes == 0 for node in world.nodes.values())


def test_what_is_told_while_the_bus_is_away_arrives_when_it_is_back() -> None:
    world = World("a", "b")
    world["a"].bus.lose()
    for number in range(5):
        world["a"].fleet.tell("b", "part", b"%d" % number)
    world.run(3)
    assert world["b"].part.got == {}
    world["a"].bus.restore()
    world.run()
    assert world["b"].part.got == {"a": [b"%d" % number for number in range(5)]}
    assert world["a"].part.take() == [("joined", "b")]


def test_letters_lost_on_the_way_are_sent_again_without_further_mail() -> None:
    """A single letter that got lost is noticed by the beats."""
    world = World("a", "b")
    world["b"].bus.fate = lambda _: []
    world["a"].fleet.tell("b", "part", b"lost")
    world.run()
    world["b"].bus.fate = None
    world.run(4.1)
    assert world["b"].part.got == {"a": [b"lost"]}
    assert world["a"].metrics.mail_resent == 1
    world.run(1.1)
    assert world["a"].metrics.mail_waiting_bytes == 0


def test_one_envelope_for_each_node_and_turn_and_none_where_nothing_is_said() -> None:
    world = World("a", "b")
    arrived: list[bytes] = []

    def count(body: bytes) -> list[bytes]:
        arrived.append(body)
        return [body]

    world["a"].bus.fate = world["b"].bus.fate = count
    world.run(10)
    assert arrived == []
    for number in range(100):
        world["a"].fleet.tell("b", "part", b"%d" % number)
    world.run(1.1)
    assert len(arrived) == 2  # the letters, and their acknowledgement
    assert len(world["b"].part.got["a"]) == 100


def test_a_member_that_takes_no_mail_is_buried() -> None:
    """Too much waits for a node that beats, but does not read: it is buried, and comes back with nothing in between."""
    world = World("a", "b")
    world["b"].bus.fate = lambda _: []
    sent = 0
    while "b" in world["a"].fleet.members:
        assert world["a"].fleet.room("b", 100_000) == (sent * 100_040 + 100_000 < MAX_WAITING_BYTES * 3 // 4)
        world["a"].fleet.tell("b", "part", bytes(100_000))
        sent += 1
        assert sent < 1000
    assert world["a"].metrics.mail_waiting_bytes == 0
    assert not world["a"].fleet.room("b", 1)
    assert ("left", "b", "heir") in world["a"].part.take()
    world["b"].bus.fate = None
    world.run(2.2)
    assert world["b"].fleet.node == "b.2"
    assert list(world["a"].fleet.members) == ["b.2"]
    world["a"].fleet.tell("b.2", "part", b"after")
    world.run()
    assert world["b"].part.got == {"a": [b"after"]}


def test_a_node_that_is_away_for_too_much_mail_gives_up_its_own_name() -> None:
    """Its members are not to blame: they keep their names, and their hands on what they do."""
    world = World("a", "b", "c")
    world["a"].part.take(), world["b"].part.take()
    world["a"].bus.lose()
    for _ in range(200):
        world["a"].fleet.tell("b", "part", bytes(100_000))
    assert world["a"].metrics.mail_waiting_bytes < 17_000_000
    world.run(1)
    world["a"].bus.restore()
    world.run(2.2)
    assert world["a"].fleet.node == "a.2"
    assert set(world["b"].fleet.members) == {"a.2", "c"}
    assert world["a"].part.take() == [
        *(("fenced",), ("left", "b"), ("left", "c"), ("renewed", "a.2")),
        *(("left", "a", "heir"), ("joined", "b"), ("joined", "c")),
    ]
    assert world["b"].part.got == {}


def test_a_member_that_acknowledges_nothing_is_no_room_for_more() -> None:
    world = World("a", "b")
    assert world["a"].fleet.room("b", 1000)
    assert not world["a"].fleet.room("x", 1)
    world.stop("b")
    world["a"].fleet.tell("b", "part", b"?")
    world.run(3)
    assert world["a"].fleet.room("b", 1000)
    world.run(2.1)
    assert not world["a"].fleet.room("b", 1000)


@pytest.mark.parametrize(
    "body",
    [
        MARK,
        MARK + b"\xc1",
        MARK + b"\x95",
        MARK + encode(Envelope("b", "a", Word.MAIL, 0, 1))[1:] + b"x",
        encode(Envelope("b", "a", Word.MAIL, 0, 1, [Letter(Kind.TOLD, "nobody", 0, b"")])),
    ],
)
def test_mail_that_cannot_be_read_is_dropped_and_counted(body: bytes) -> None:
    world = World("a", "b")
    world["a"].bus.message(body)
    world.run()
    assert world["a"].metrics.mail_invalid == 1
    world["b"].fleet.tell("a", "part", b"next")
    world.run(4.1)
    assert world["a"].part.got.get("b", [b"next"]) == [b"next"]


def test_mail_for_a_former_name_is_dropped() -> None:
    world = World("a", "b")
    world["a"].bus.message(encode(Envelope("b", "a.0", Word.MAIL, 0, 1, [Letter(Kind.TOLD, "part", 0, b"")])))
    assert world["a"].part.got == {}
    assert world["a"].metrics.mail_invalid == 0


def test_questions_end_with_the_answers_that_are_there() -> None:
    """Who leaves is not waited for, nor who is silent for longer than the patience; a second answer counts for nothing."""
    world = World("a", "b", "c")
    answers: list[dict[str, bytes]] = []
    world["c"].part.silent = True
    world["a"].fleet.ask(None, "part", b"1", lambda found: answers.append(dict(found)))
    world.run(PATIENCE - 0.1)
    assert answers == []
    world["c"].stop()
    world.run()
    assert answers == [{"a": b"a 1", "b": b"b 1"}]
    world["b"].part.silent = True
    world["a"].fleet.ask(["a", "b", "x"], "part", b"2", lambda found: answers.append(dict(found)))
    world.run(PATIENCE)
    assert answers[1:] == [{"a": b"a 2"}]
    world["a"].fleet.ask(["a"], "part", b"3", lambda found: answers.append(dict(found)))
    world["a"].fleet.ask(["x"], "part", b"4", lambda found: answers.append(dict(found)))
    assert answers[2:] == [{"a": b"a 3"}, {}]
