"""`nexus demo`: the simulated agents alone, and a fleet at a real server."""

from __future__ import annotations

import signal

from hypothesis import given
from hypothesis import strategies as st
from nexus_client.cli.device import COOL, HOT, Device, Moment
from nexus_client.samples import make_sample

from tests.clients.cli.program import Program


def life(seed: int, steps: int, seconds: float = 1.0, name: str = "agent-001") -> list[Moment]:
    device = Device(name, seed)
    return [device.step(seconds) for _ in range(steps)]


@given(seed=st.integers(0, 10_000))
def test_a_life_is_the_same_for_the_same_seed_and_name(seed: int) -> None:
    assert life(seed, 50) == life(seed, 50)
    assert life(seed, 50) != life(seed, 50, name="agent-002")


@given(seed=st.integers(0, 10_000), seconds=st.sampled_from([0.1, 1.0, 10.0]))
def test_what_it_measures_can_be_sent_and_alarms_come_in_turn(seed: int, seconds: float) -> None:
    expected = "alarm.raised"
    for moment in life(seed, 300, seconds):
        make_sample("1", "agent-001", moment.metrics, None)
        assert 0 < moment.metrics["cpu"] <= 100 and 0.15 <= moment.metrics["battery"]["level"] <= 1
        for kind, data in moment.events:
            assert kind == expected
            assert data["value"] >= HOT if kind == "alarm.raised" else data["value"] <= COOL
            expected = "alarm.cleared" if kind == "alarm.raised" else "alarm.raised"


def test_faults_happen_within_minutes() -> None:
    fleet = [life(1, 300, name=f"agent-{number:03}") for number in range(5)]
    assert {kind for each in fleet for moment in each for kind, _ in moment.events} == {"alarm.raised", "alarm.cleared"}
    assert any(moment.away for each in fleet for moment in each)


def test_a_restart_makes_it_leave_once() -> None:
    device = Device("agent-001", 1)
    device.step(1)
    device.restart()
    assert 1 <= device.step(1).away <= 2
    assert device.step(1).metrics["uptime"] == 1


def test_a_fleet_is_watched_commanded_and_ended(program: Program) -> None:
    demo = program.start("demo", "--agents", "3", "--interval", "0.05", "--seed", "3", "--json")
    samples = program("subscribe", "telemetry.received", "--count", "10", "--json")
    assert {each["data"]["agentId"] for each in samples.records() if "data" in each} <= {f"agent-00{n}" for n in (1, 2, 3)}
    deployed = program("command", "deploy", "version=1.2.3", "--target", "agent-001", "--ttl", "20", "--json")
    assert '"before": "1.0.0"' in deployed.out
    failed = program("command", "fail", "--target", "agent-002", "--ttl", "20", status=1)
    assert "fails whenever" in failed.err
    assert "version" in program("command", "deploy", "--target", "agent-003", "--ttl", "20", status=1).err
    program("command", "restart", "--target", "agent-001", "--ttl", "20")
    what = {"type": "came back", "agentId": "agent-001"}
    demo.until(lambda: what in demo.records(), "the agent is back")
    demo.interrupt()
    assert demo.ended() == 128 + signal.SIGINT
    told = demo.records()[-1]
    assert (told["type"], told["agents"], told["commands"]) == ("demo", 3, 3)
    assert told["samples"] >= 10
    assert program("command", "blink", "--target", "agent-001", status=1).err  # nobody is left


def test_a_fleet_ends_after_its_time_and_a_wrong_token_is_told_once(program: Program) -> None:
    assert "2 agents: " in program("demo", "--agents", "2", "--duration", "0.5s").out
    refused = program("demo", "--agents", "50", "--token", "not-the-token-of-it", status=1)
    assert refused.err.count("Unauthorized") == 1
