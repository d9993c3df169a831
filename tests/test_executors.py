from __future__ import annotations

from nexus_tw.executors import Executor, Executors
from tests.recording import RecordingPeer


def test_executors_take_turns() -> None:
    executors = Executors()
    one, two = RecordingPeer(), RecordingPeer()
    executors.add(one, "a", ["deploy"])
    executors.add(two, "b", ["deploy"])
    picked = [executors.pick("deploy", None) for _ in range(4)]
    assert picked == [Executor(one, "a"), Executor(two, "b")] * 2


def test_a_given_agent_is_reached_by_the_connection_that_registered_last() -> None:
    executors = Executors()
    one, two = RecordingPeer(), RecordingPeer()
    executors.add(one, "a", ["deploy"])
    executors.add(two, "a", ["deploy"])
    assert executors.pick("deploy", "a") == Executor(two, "a")
    executors.add(one, "a", ["deploy"])
    assert executors.pick("deploy", "a") == Executor(one, "a")
    executors.lost(one)
    assert executors.pick("deploy", "a") == Executor(two, "a")


def test_dropping_a_command_drops_it_for_every_agent_of_the_connection_and_for_nobody_else() -> None:
    executors = Executors()
    one, two = RecordingPeer(), RecordingPeer()
    executors.add(one, "a", ["deploy", "stop"])
    executors.add(one, "b", ["deploy"])
    executors.add(two, "c", ["deploy"])
    executors.drop(one, ["deploy", "unheard-of"])
    assert executors.registrations(one) == {("stop", "a")}
    assert executors.pick("deploy", None) == Executor(two, "c")
    assert not executors.any("deploy", "a") and executors.any("stop", "a")


def test_a_lost_connection_executes_nothing_and_may_be_lost_twice() -> None:
    executors = Executors()
    peer = RecordingPeer()
    executors.add(peer, "a", ["deploy", "stop"])
    executors.lost(peer)
    executors.lost(peer)
    assert executors.pick("deploy", None) is None and executors.pick("deploy", "a") is None
    assert not executors.any("stop", None) and not executors.registrations(peer)


def test_a_connection_is_several_agents_only_when_it_registered_as_more_than_one() -> None:
    executors = Executors()
    peer = RecordingPeer()
    assert not executors.several(peer)
    executors.add(peer, "a", ["deploy", "stop"])
    assert not executors.several(peer)
    executors.add(peer, "b", ["deploy"])
    assert executors.several(peer)


def test_registering_nothing_leaves_nothing_behind() -> None:
    executors = Executors()
    peer = RecordingPeer()
    executors.add(peer, "a", [])
    assert not executors.registrations(peer)
