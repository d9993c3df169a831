"""Telemetry as a call."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from nexus_tw.model.errors import NexusError
from nexus_tw.model.settings import Realm, Role
from tests.protocols.wamp.rules.core import World
from tests.realm.asking import refused
from tests.wamp.peer import CALL, ERROR, RESULT


class HandStore:
    """Commits when the test says so."""

    def __init__(self) -> None:
        self.commits: list[tuple[Any, Deferred[None]]] = []

    def commit(self, samples: Any) -> Deferred[None]:
        self.commits.append((samples, Deferred()))
        return self.commits[-1][1]


@pytest.fixture
def store() -> HandStore:
    return HandStore()


@pytest.fixture
def world(store: HandStore) -> World:
    return World({"other": Realm()}, store=store)


def test_telemetry_is_a_call_that_ends_when_it_is_stored(world: World, store: HandStore) -> None:
    watcher, speaker = world.join(), world.join(role=Role(telemetry=("agent-1",)))
    watcher.subscribe("telemetry.received")
    watcher.subscribe("agent.status")
    for payload in ([[], {"agentId": "agent-1", "metrics": {"cpu": 1}}], [["agent-1", {"cpu": 2}]]):
        request = speaker.call("nexus.telemetry.submit", *payload)
        assert speaker.heard() == []
        store.commits.pop()[1].callback(None)
        assert speaker.one() == [RESULT, request, {}]
    assert [message[5]["agentId"] for message in watcher.heard()] == ["agent-1"] * 3


def test_telemetry_needs_the_right_to_speak_for_the_agent_and_no_other(world: World, store: HandStore) -> None:
    speaker = world.join(role=Role(telemetry=("agent-1",), call=("**",)))
    uri, _ = refused(speaker, "nexus.telemetry.submit", ["agent-2", {"cpu": 1}])
    assert uri == "wamp.error.not_authorized"
    wrong: list[list[Any]] = [[], ["agent-1"], ["agent-1", []], ["agent-1", {}], ["agent-1", {"a": None}], [5, {"a": 1}]]
    for args in wrong:
        uri, _ = refused(speaker, "nexus.telemetry.submit", args)
        assert uri == "wamp.error.invalid_argument"
    assert refused(world.join(realm="other"), "nexus.telemetry.submit", ["a", {"a": 1}])[0] == "wamp.error.no_such_procedure"


def test_telemetry_that_cannot_be_stored_is_an_error(world: World, store: HandStore) -> None:
    speaker = world.join()
    request = speaker.call("nexus.telemetry.submit", ["agent-1", {"cpu": 1}])
    world.run()
    store.commits.pop()[1].errback(NexusError("store_unavailable", "no disk"))
    told = speaker.one()
    assert told[:5] == [ERROR, CALL, request, {}, "wamp.error.unavailable"]
    assert told[6] == {"code": "store_unavailable", "retryable": True}
