"""Facts of agents: which are asked for, in which order, and what two nodes say of one."""

from __future__ import annotations

import pytest

from nexus_tw.presence.facts import Choice, Facts, Query, agent_of


@pytest.mark.parametrize(
    ("text", "read", "taken"),
    [
        ("", ["**"], ["a", "b.x", "b.y", "nexus.z"]),
        ("b", ["**"], ["b.x", "b.y"]),
        ("x", ["**"], ["b.x", "nexus.z"]),
        ("b.*", ["**"], ["b.x", "b.y"]),
        ("*", ["**"], ["a"]),
        ("", ["a", "*.y"], ["a", "b.y"]),
        ("b", ["a", "*.y"], ["b.y"]),
        ("", [], []),
    ],
)
def test_a_query_takes_ids_by_a_part_or_a_pattern_of_those_that_may_be_read(
    text: str, read: list[str], taken: list[str]
) -> None:
    choice = Choice(Query(read, text))
    assert [agent_id for agent_id in ("a", "b.x", "b.y", "nexus.z") if choice.takes(agent_id)] == taken


@pytest.mark.parametrize(
    ("sort", "order"), [("agentId", ["a", "b", "c"]), ("since", ["c", "a", "b"]), ("status", ["b", "a", "c"])]
)
def test_keys_have_the_order_that_is_asked_for(sort: str, order: list[str]) -> None:
    for backwards in (False, True):
        choice = Choice(Query(["**"], sort=sort, backwards=backwards))  # type: ignore[arg-type]
        keys = [choice.key("a", "online", 900), choice.key("b", "offline", 1000), choice.key("c", "online", 80)]
        expected = order[::-1] if backwards else order
        assert [agent_of(key) for key in choice.first(keys, 3)] == expected
        second = choice.first(keys, 2)[1]
        further = Choice(Query(["**"], sort=sort, backwards=backwards, after=second))  # type: ignore[arg-type]
        assert [agent_of(key) for key in keys if further.follows(key)] == expected[2:]


def test_an_agent_on_two_nodes_is_where_it_has_registered_then_where_it_is_connected() -> None:
    registered = Facts("a", "online", 30, "one", "1.1.1.1", True, ["x"], 5)
    connected = Facts("a", "online", 20, "two", "2.2.2.2", False, ["y"], 7)
    first = Facts("a", "online", 10, "three", None, False, [], None)
    for one, other in ((registered, connected), (connected, registered)):
        assert one.merged(other) == Facts("a", "online", 20, "one", "1.1.1.1", True, ["x", "y"], 7)
    assert first.merged(connected) == Facts("a", "online", 10, "two", "2.2.2.2", False, ["y"], 7)
    assert first.merged(Facts("a", "online", 5, "four")) == Facts("a", "online", 5, "four")
