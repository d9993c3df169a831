from __future__ import annotations

from nexus_tw.roster import Roster
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
