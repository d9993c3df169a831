"""`nexus demo`: the simulated agents alone, and a fleet at a real server."""

from __future__ import annotations

import asyncio
import math
import random
import signal
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nexus_client import Nexus
from nexus_client.cli.device import COOL, HOT, Device, Moment
from nexus_client.cli.fleet import Fleet
from nexus_client.cli.motion import FASTEST, ROUND, Motion
from nexus_client.cli.overview import Overview, line
from nexus_client.cli.tally import WINDOW, Rates
from nexus_client.core.options import Sample
from nexus_client.samples import make_sample
from nexus_client.spool import Spool

from tests.clients.cli.program import Program, wait_for
from tests.clients.looped import PATIENCE, looped, node, started, until
from tests.e2e.server import NexusServer


def life(seed: int, seconds: float, every: float = 1.0, name: str = "agent-001") -> list[Moment]:
    device = Device(name, seed)
    return [device.until(number * every) for number in range(1, round(seconds / every) + 1)]


def alarms(moments: list[Moment]) -> list[tuple[str, dict[str, Any]]]:
    return [event for moment in moments for event in moment.events]


def absences(moments: list[Moment], every: float) -> list[float]:
    """Return when the network came back, of the absences that were seen."""
    return sorted({round((number + 1) * every + moment.away, 3) for number, moment in enumerate(moments) if moment.away})


@given(seed=st.integers(0, 10_000))
def test_a_life_is_the_same_for_the_same_seed_and_name(seed: int) -> None:
    assert life(seed, 50) == life(seed, 50)
    assert life(seed, 50) != life(seed, 50, name="agent-002")


@given(seed=st.integers(0, 10_000), every=st.sampled_from([0.1, 0.7, 3.0, 60.0]))
@settings(deadline=None)
def test_faults_come_at_the_same_times_however_often_it_is_looked_at(seed: int, every: float) -> None:
    usual, other = life(seed, 420), life(seed, 420, every)
    assert alarms(other) == alarms(usual)
    seen = absences(other, every)
    assert set(seen) <= set(absences(usual, 1.0))  # the shortest one lasts 3 s
    assert every > 3 or seen == absences(usual, 1.0)
    assert other[-1].metrics == usual[-1].metrics


@given(seed=st.integers(0, 1_000))
@settings(deadline=None, max_examples=20)
def test_commands_change_no_faults(seed: int) -> None:
    device, restarted = Device("agent-001", seed), []
    for second in range(1, 301):
        if second % 7 == 0:
            device.restart()
        restarted.append(device.until(second))
    assert alarms(restarted) == alarms(life(seed, 300))
    assert set(absences(life(seed, 300), 1.0)) <= set(absences(restarted, 1.0))


@given(seed=st.integers(0, 10_000), every=st.sampled_from([0.5, 1.0, 10.0]))
@settings(deadline=None)
def test_what_it_measures_can_be_sent_and_alarms_come_in_turn(seed: int, every: float) -> None:
    expected = "alarm.raised"
    for moment in life(seed, 300, every):
        make_sample("1", "agent-001", moment.metrics, None)
        assert 0 < moment.metrics["cpu"] <= 100 and 0.15 <= moment.metrics["battery"]["level"] <= 1
        for kind, data in moment.events:
            assert kind == expected
            assert data["value"] >= HOT - 0.1 if kind == "alarm.raised" else data["value"] <= COOL + 0.1
            expected = "alarm.cleared" if kind == "alarm.raised" else "alarm.raised"


@given(seed=st.integers(0, 10_000))
@settings(deadline=None)
def test_it_drives_no_faster_than_it_says_and_stays_near_its_home(seed: int) -> None:
    motion = Motion(random.Random(seed))
    home = motion.position()
    before, moved = home, 0.0
    for _ in range(600):
        motion.go(1.0)
        here = motion.position()
        step = distance(before, here)
        assert step <= FASTEST + 3  # positions are rounded to a metre or so
        assert abs(step - here["speed"]) <= 3
        assert distance(home, here) <= ROUND + 1000  # it needs room to turn
        before, moved = here, moved + step
    assert moved > 100


def distance(a: dict[str, float], b: dict[str, float]) -> float:
    """Return metres, on a plane that is good enough for a town."""
    east = (b["lon"] - a["lon"]) * math.cos(math.radians(a["lat"]))
    return math.hypot(b["lat"] - a["lat"], east) * 111_320


def test_faults_happen_within_minutes() -> None:
    fleet = [life(1, 300, name=f"agent-{number:03}") for number in range(5)]
    assert {kind for each in fleet for kind, _ in alarms(each)} == {"alarm.raised", "alarm.cleared"}
    assert any(moment.away for each in fleet for moment in each)


def test_a_restart_makes_it_leave_once() -> None:
    device = Device("agent-001", 1)
    device.until(1)
    device.restart()
    away = device.until(2).away
    assert 1 <= away <= 2
    assert not device.until(3).away
    assert device.until(10).metrics["uptime"] == round(8 - away)


def test_rates_are_those_of_the_last_seconds() -> None:
    rates = Rates()
    assert rates.look(100.0, 50, 0) == (0.0, 0.0)
    assert rates.look(102.0, 70, 1) == (10.0, 0.5)
    assert rates.look(100.0 + WINDOW, 70, 1) == (20 / WINDOW, 1 / WINDOW)
    assert rates.look(102.0 + WINDOW, 70, 1) == (0.0, 0.0)
    assert rates.look(1000.0, 70, 101)[1] == pytest.approx(100 / (1000 - 107))


@looped
async def test_agents_go_on_measuring_while_the_server_is_gone(tmp_path: Path) -> None:
    """Connected agents are counted as they are, and an alarm that waits for the server holds nothing up."""
    server = NexusServer(tmp_path)
    await started(server)
    devices = [Alarming(f"agent-00{number}", 1) for number in (1, 2, 3)]
    fleet = Fleet(lambda agent: Nexus(server.ws, token=server.token, agent=agent), [*devices], 0.02, lambda *_: None)
    tally = fleet.tally
    running = asyncio.create_task(fleet.run())
    try:
        await until(lambda: tally.states["connected"] == 3 and tally.stored >= 10 and tally.events >= 10)
        server.discard()
        await until(lambda: not tally.states["connected"])
        measured, stored = tally.samples, tally.stored
        await until(lambda: tally.samples >= measured + 50)
        assert (tally.stored, tally.states["connected"]) == (stored, 0)
        assert tally.states["waiting"] + tally.states["connecting"] == 3
        events = tally.events
        await started(server)
        await until(lambda: tally.states["connected"] == 3 and tally.events > events and tally.stored > measured + 50)
    finally:
        running.cancel()
        await asyncio.wait([running])
        server.discard()
    assert running.cancelled()
    assert +tally.states == {"away": 3}
    assert tally.stored == tally.samples  # also those that were measured while it was gone
    with closing(sqlite3.connect(server.database)) as database:
        assert database.execute("SELECT count(*) FROM samples").fetchone() == (tally.stored,)


class Slow(Spool):
    """A spool on a disk that is as slow as the test wants."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.writes, self.goes_on = threading.Event(), threading.Event()

    def add(self, samples: Sequence[Sample]) -> list[str]:
        self.writes.set()
        assert self.goes_on.wait(PATIENCE)
        return super().add(samples)


@looped
async def test_a_sample_that_is_under_way_when_an_agent_ends_is_counted(tmp_path: Path) -> None:
    spool = Slow(tmp_path / "spool.db")
    async with node() as server:
        device = Alarming("agent-001", 1)
        fleet = Fleet(lambda agent: Nexus(server.http, agent=agent, spool=spool), [device], 60, lambda *_: None)
        running = asyncio.create_task(fleet.run())
        await until(lambda: fleet.tally.states["connected"] and spool.writes.is_set())
        running.cancel()
        await asyncio.sleep(0)
        spool.goes_on.set()
        await asyncio.wait([running])
        assert len(server.model.samples) == 1
    assert (fleet.tally.samples, fleet.tally.stored) == (1, 1)


class Alarming(Device):
    """Has an alarm each time, and a network that does not fail."""

    def until(self, time: float) -> Moment:
        event = "alarm.raised", {"agentId": self.name, "value": 90.0}
        return Moment({"cpu": 1.0}, (event,), 0.0, math.inf)


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
    shown = program.on_terminal("demo", "--agents", "2", interrupted_at="2 connected")
    for words in ("samples/s", "0 overheated, 0 away", "2 agents: "):
        assert words in shown
    refused = program("demo", "--agents", "50", "--token", "not-the-token-of-it", status=1)
    assert refused.err.count("Unauthorized") == 1


def test_a_line_tells_how_the_fleet_is() -> None:
    fleet = Fleet(Nexus, [Device("agent-001", 1)], 1.0, lambda *_: None)
    overview = Overview(fleet)
    assert line(overview.look(0.0)) == "nobody yet; 0.0 samples/s, 0.0 events/s, 0 overheated, 0 commands answered"
    fleet.tally.turn("agent-001", "connecting")
    fleet.tally.turn("agent-001", "connected")
    fleet.tally.stored, fleet.tally.events, fleet.tally.commands, fleet.devices[0].alarm = 5_000, 2, 3, True
    words = "1 connected; 1,250.0 samples/s, 0.5 events/s, 1 overheated, 3 commands answered"
    assert line(overview.look(4.0)) == words


@pytest.mark.long
def test_one_process_runs_a_thousand_agents(program: Program) -> None:
    demo = program.start("demo", "--agents", "1000", "--interval", "5", "--seed", "1", "--json")

    def last() -> dict[str, Any]:
        found: list[dict[str, Any]] = [each for each in demo.records() if each["type"] == "status"]
        return found[-1] if found else {}

    def all_are_there() -> bool:
        states = last().get("states", {})
        return bool(states) and states["connected"] > 900 and sum(states.values()) == 1000

    wait_for(lambda: all_are_there() and last()["samples"] > 5_000 and last()["events"] > 20, "a fleet at work", 240)
    demo.interrupt()
    assert demo.ended(60) == 128 + signal.SIGINT
    told = demo.records()[-1]
    assert (told["type"], told["agents"]) == ("demo", 1000) and told["samples"] > 5_000
    assert {"left", "came back"} <= {each["type"] for each in demo.records()}
