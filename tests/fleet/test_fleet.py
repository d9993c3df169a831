"""A fleet over the memory bus: who joins, who is buried, who is fenced."""

from __future__ import annotations

from tests.fleet.world import World


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
    for node in world.nodes.values():
        node.part.take()
    world.kill("c")
    world.run(5.0)
    assert world["a"].part.take() == world["b"].part.take() == []
    world.run(3.0)
    assert sorted([*world["a"].part.take(), *world["b"].part.take()]) == [("left", "c"), ("left", "c", "heir")]
    assert world["a"].metrics.fleet_burials + world["b"].metrics.fleet_burials == 1


def test_a_stopped_node_notices_and_comes_back_under_another_name() -> None:
    world = World("a", "b")
    for node in world.nodes.values():
        node.part.take()
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
    for node in world.nodes.values():
        node.part.take()
    world["c"].stop()
    world.run()
    assert sorted([*world["a"].part.take(), *world["b"].part.take()]) == [("left", "c"), ("left", "c", "heir")]


def test_lost_data_is_put_there_again_under_the_same_name() -> None:
    world = World("a", "b")
    for node in world.nodes.values():
        node.part.take()
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
