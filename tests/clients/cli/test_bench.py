"""`nexus bench`: it counts exactly, finds each fault, says when it is itself what is slow, and ends."""

from __future__ import annotations

import asyncio
import json
import math
import re
import resource
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from nexus_client.cli.app import App
from nexus_client.cli.bench import plan
from nexus_client.cli.bench.histogram import Histogram
from nexus_client.cli.bench.ledger import MISSING, Ledger
from nexus_client.cli.bench.plan import ERRORS, Bounds, Plan
from nexus_client.cli.program import nexus

from tests.clients.cli.fronts import Meddler
from tests.clients.cli.program import Program
from tests.e2e.server import NexusServer

Message = dict[str, Any]
Change = Callable[[Message], list[Message]]

# --- what it counts with


@given(st.lists(st.floats(1e-6, 1e4), min_size=1), st.floats(0.1, 100))
def test_percentiles_are_at_most_two_percent_too_long(durations: list[float], percent: float) -> None:
    histogram = Histogram()
    for each in durations:
        histogram.add(each)
    exact = sorted(durations)[max(0, math.ceil(len(durations) * percent / 100 - 1e-9) - 1)]
    assert exact * 0.999 <= histogram.percentile(percent) <= exact * 1.021
    assert histogram.longest == max(durations)
    assert histogram.milliseconds().keys() == {"p50", "p90", "p99", "p99.9", "max"}


def test_a_histogram_of_nothing_is_zero() -> None:
    assert set(Histogram().milliseconds().values()) == {0}


@given(st.lists(st.integers(0, 12), max_size=30), st.integers(0, 12), st.sets(st.integers(0, 12), max_size=3))
def test_the_ledger_tells_what_is_lost_came_twice_or_late(numbers: list[int], sent: int, excused: set[int]) -> None:
    ledger = Ledger()
    for each in numbers:
        ledger.enter(each)
    sent = max([sent, *(each + 1 for each in numbers)])
    firsts = list(dict.fromkeys(numbers))
    assert ledger.received == len(firsts)
    assert ledger.repeated == len(numbers) - len(firsts)
    assert ledger.reordered == sum(each < max(firsts[: place + 1]) for place, each in enumerate(firsts))
    assert ledger.lost(sent, excused) == len(set(range(sent)) - set(firsts) - excused)


def test_the_ledger_is_bounded_and_counts_on() -> None:
    ledger = Ledger()
    ledger.enter(MISSING * 3)
    assert ledger.lost(MISSING * 3 + 1) == MISSING * 3
    ledger.enter(5)
    assert (ledger.received, ledger.reordered) == (2, 1)
    assert ledger.lost(MISSING * 3 + 1) == MISSING * 3 - 1


def test_turns_come_at_their_rate_and_end_with_the_count_the_time_or_errors() -> None:
    async def turns(bounds: Bounds, fail: bool = False) -> tuple[Plan, list[float]]:
        found, dues = Plan(bounds), []
        while (due := await found.turn()) is not None:
            dues.append(due - found.began)
            if fail:
                found.fail(ValueError("no"))
        return found, dues

    _, dues = asyncio.run(turns(Bounds(math.inf, 20, 200)))
    assert dues == pytest.approx([number / 200 for number in range(20)])
    found, dues = asyncio.run(turns(Bounds(0.1, None, 100)))
    assert dues == pytest.approx([number / 100 for number in range(found.turns)])
    assert 1 <= found.turns <= 10
    found, dues = asyncio.run(turns(Bounds(math.inf, None, None), fail=True))
    assert (len(dues), found.error) == (ERRORS, "no")


# --- against a server


@pytest.fixture
def bench(server: NexusServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run `nexus bench` with these arguments, in this process."""

    def run(_app: App, main: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(main)  # without handlers of signals, which are the tests' own

    monkeypatch.setattr(App, "run", run)
    monkeypatch.setattr(plan, "PATIENCE", 0.5)
    monkeypatch.setenv("NEXUS_URL", server.http)
    monkeypatch.setenv("NEXUS_TOKEN", server.token)

    def measure(*arguments: str, status: int = 0) -> Result:
        result = CliRunner().invoke(nexus, ["bench", *arguments])
        assert result.exit_code == status, result.output
        return result

    return measure


def figures(result: Result) -> Message:
    (line,) = result.stdout.splitlines()
    found: Message = json.loads(line)
    assert found["type"] == "bench"
    return found


def test_fanout(bench: Callable[..., Result]) -> None:
    found = figures(bench("fanout", "--subscribers", "5", "--publishers", "2", "--count", "400", "--size", "100", "--json"))
    assert (found["verdict"], found["published"], found["delivered"]) == ("passed", 400, 2000)
    assert [found[each] for each in ("lost", "twice", "outOfOrder", "gaps", "errors")] == [0] * 5
    assert found["deliveredPerSecond"] == pytest.approx(2000 / found["seconds"], rel=0.01)
    assert 0 < found["milliseconds"]["delivered"]["p50"] <= found["milliseconds"]["delivered"]["max"]


def test_telemetry(bench: Callable[..., Result]) -> None:
    found = figures(bench("telemetry", "--agents", "3", "--count", "600", "--in-flight", "50", "--watch", "--json"))
    assert (found["verdict"], found["sent"], found["stored"]) == ("passed", 600, 600)
    assert [found[each] for each in ("notAcknowledged", "unseen", "seenTwice", "outOfOrder", "gaps", "errors")] == [0] * 6
    assert "unseen" not in figures(bench("telemetry", "--count", "10", "--json"))


def test_command(bench: Callable[..., Result]) -> None:
    found = figures(bench("command", "--callers", "3", "--in-flight", "2", "--count", "200", "--json"))
    assert (found["verdict"], found["called"], found["answered"]) == ("passed", 200, 200)
    assert [found[each] for each in ("notAnswered", "notExecuted", "executedTwice", "wrongAnswers", "errors")] == [0] * 5


def test_connect(bench: Callable[..., Result]) -> None:
    found = figures(bench("connect", "--count", "60", "--at-once", "20", "--json"))
    assert (found["verdict"], found["opened"], found["dropped"], found["errors"]) == ("passed", 60, 0, 0)


def test_people_see_a_table_and_a_verdict(bench: Callable[..., Result]) -> None:
    shown = bench("fanout", "--count", "30", "--rate", "100", "--subscribers", "2").stdout
    assert re.search(r"^published +30$", shown, re.MULTILINE)
    assert "p99.9" in shown
    assert shown.endswith("passed: each of 30 events came to 2 subscribers once and in order\n")


# --- what is wrong is found


def meddle(kind: str, instead: Callable[[Message, Message], list[Message]]) -> Change:
    """Return a change of the 20th message of a kind and the one before it; events lose their positions, which would tell."""
    seen: list[Message] = []

    def change(message: Message) -> list[Message]:
        message.pop("position", None)
        message.pop("positions", None)
        if not f"{message['type']} {message.get('eventType', '')}".startswith(kind):
            return [message]
        seen.append(message)
        if len(seen) == 19:
            return []
        return instead(seen[-2], message) if len(seen) == 20 else [message]

    return change


def wrong_result(before: Message, message: Message) -> list[Message]:
    return [before, message | {"data": message["data"] | {"result": -7}}]


@pytest.fixture
def meddler(server: NexusServer) -> Iterator[Callable[[Change], str]]:
    """Start relays to the server; each returns its address."""
    started: list[Meddler] = []

    def start(change: Change) -> str:
        started.append(Meddler(server.ws, change))
        return f"http://127.0.0.1:{started[-1].port}"

    yield start
    for each in started:
        each.stop()


FANOUT = ("fanout", "--subscribers", "1")
WATCHED = ("telemetry", "--watch", "--agents", "1")


@pytest.mark.parametrize(
    ("arguments", "kind", "instead", "fault"),
    [
        (FANOUT, "event bench.", lambda before, last: [last], "lost"),
        (FANOUT, "event bench.", lambda before, last: [before, last, last], "twice"),
        (FANOUT, "event bench.", lambda before, last: [last, before], "outOfOrder"),
        (WATCHED, "event telemetry.received", lambda before, last: [before], "unseen"),
        (WATCHED, "event telemetry.received", lambda before, last: [before, before, last], "seenTwice"),
        (("command", "--callers", "1", "--in-flight", "3"), "command_result", wrong_result, "wrongAnswers"),
    ],
)
def test_one_fault_in_a_hundred_is_found(
    bench: Callable[..., Result],
    meddler: Callable[[Change], str],
    arguments: tuple[str, ...],
    kind: str,
    instead: Callable[[Message, Message], list[Message]],
    fault: str,
) -> None:
    url = meddler(meddle(kind, instead))
    found = figures(bench(*arguments, "--count", "100", "--json", "--url", url, status=1))
    assert (found["verdict"], found[fault]) == ("failed", 1)
    faults = {"lost", "twice", "outOfOrder", "unseen", "seenTwice", "wrongAnswers", "notExecuted", "executedTwice", "errors"}
    assert sum(found.get(each, 0) for each in faults) == 1


def test_samples_that_are_never_acknowledged_end_the_load(
    bench: Callable[..., Result], meddler: Callable[[Change], str]
) -> None:
    url = meddler(lambda message: [] if message["type"] == "telemetry_ack" else [message])
    arguments = ("telemetry", "--agents", "2", "--in-flight", "5", "--duration", "60")
    found = figures(bench(*arguments, "--json", "--url", url, status=1))
    assert (found["sent"], found["stored"], found["notAcknowledged"]) == (10, 0, 10)


def test_a_refusal_is_told_and_ends_the_load(bench: Callable[..., Result], meddler: Callable[[Change], str]) -> None:
    def refuse(message: Message) -> list[Message]:
        if message["type"] != "published":
            return [message]
        error = {"type": "error", "code": "rate_limited", "message": "too fast", "retryable": True}
        return [error | {"id": message["id"], "timestamp": message["timestamp"]}]

    url = meddler(refuse)
    found = figures(bench("fanout", "--subscribers", "1", "--in-flight", "1", "--json", "--url", url, status=1))
    assert (found["errors"], found["error"], found["lost"]) == (ERRORS, "too fast", 0)


def test_more_connections_than_the_system_or_the_server_has(
    bench: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 200))
    result = bench("connect", "--count", "500", status=2)
    assert "500 connections need 564 file descriptors; the system allows 200" in result.stderr


# --- its manners


def test_a_server_elsewhere_is_left_alone_unless_that_is_meant(bench: Callable[..., Result]) -> None:
    result = bench("fanout", "--url", "https://fleet.invalid", status=2)
    assert "is not on this machine" in result.stderr
    assert "--yes" in result.stderr
    assert "cannot reach" in bench("fanout", "--url", "https://fleet.invalid", "--yes", status=1).stderr


def test_it_says_when_it_is_itself_what_is_slow(bench: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    from nexus_client.cli.bench import result

    monkeypatch.setattr(result, "BUSY", 0.0)
    told = json.loads(bench("fanout", "--count", "10", "--json").stderr)
    assert told["type"] == "warning"
    assert "its own limit rather than the server's" in told["message"]
    monkeypatch.setattr(result, "BUSY", 99.0)
    assert bench("fanout", "--count", "10", "--json").stderr == ""


def test_ctrl_c_gives_the_figures_so_far(program: Program) -> None:
    running = program.start("bench", "fanout", "--duration", "60", "--rate", "50", "--json")
    watcher = program("subscribe", "bench.**", "--count", "5", "--json")
    assert len(watcher.records()) == 5
    running.interrupt()
    assert running.ended() == 130
    (found,) = running.records()
    assert (found["verdict"], found["lost"]) == ("interrupted", 0)
    assert found["published"] >= 5


def test_a_terminal_has_a_bar_that_goes_away(program: Program) -> None:
    shown = program.on_terminal("bench", "fanout", "--count", "50", "--rate", "50", "--subscribers", "1")
    assert " requests, " in shown
    assert "passed: each of 50 events" in shown
