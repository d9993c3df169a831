from __future__ import annotations

from typing import Any

from nexus_tw.model.policy import Principal
from nexus_tw.presence.sessions import Roster
from tests.recording import RecordingPeer


def test_sessions_are_found_by_their_ids_until_they_go() -> None:
    roster = Roster()
    one, two = RecordingPeer(), RecordingPeer()
    roster.add(one)
    roster.add(two)
    assert roster.get(one.number) is one and roster.get(two.number) is two and len(roster) == 2
    assert roster.remove(one) and not roster.remove(one)
    assert roster.get(one.number) is None and list(roster) == [two]


def test_the_longest_there_come_first_and_may_go_while_they_are_looked_at() -> None:
    roster = Roster()
    peers = [RecordingPeer() for _ in range(3)]
    for peer in reversed(peers):
        roster.add(peer)
    seen: list[object] = []
    for each in roster:
        seen.append(each)
        roster.remove(peers[1])
    assert seen == peers[::-1] and list(roster) == [peers[2], peers[0]]


def test_one_who_never_came_may_go() -> None:
    assert not Roster().remove(RecordingPeer())


class Unwalked(dict[int, Any]):
    """Nobody may go through it."""

    def __iter__(self) -> Any:
        raise AssertionError

    values = items = keys = __iter__


def test_sessions_are_counted_without_a_walk_through_them() -> None:
    roster = Roster()
    peers = [RecordingPeer(who=Principal(f"s{number}", f"role-{number % 3}")) for number in range(9)]
    for peer in peers:
        roster.add(peer)
    assert roster.numbers(["role-1", "role-1", "x"]) == [peer.number for peer in peers[1::3]]
    assert roster.numbers(None) == [peer.number for peer in peers]
    for peer in peers[:4]:
        roster.remove(peer)
    roster._peers = Unwalked(roster._peers)
    assert [roster.count(roles) for roles in (None, [], ["role-0"], ["role-0", "role-1", "role-0"], ["x"])] == [5, 0, 1, 3, 0]
    for peer in peers[4:]:
        roster.remove(peer)
    assert not roster._roles
