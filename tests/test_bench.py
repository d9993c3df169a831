"""The load generator: drives every kind of server through every scenario, and detects every inexact answer."""

from __future__ import annotations

import json
import os
import random
import select
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha1
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from bench import report, wire
from bench.cells import CELLS
from bench.dialects import HISTORY, JSON, WAMP, Dialect
from bench.errors import Inexact, Unable
from bench.harm import registry
from bench.harm.page import latest
from bench.harm.runs import Harm
from bench.link import Address, Link
from bench.meter import Measure
from bench.peers.crossbar import VARIABLE
from bench.processes import ROOT, Process, environment, free_port, module
from bench.replies import Replies
from bench.runner import Row
from bench.scenarios.calls import calls
from bench.scenarios.crowds import handshakes, memory
from bench.scenarios.fanout import fanout
from bench.scenarios.filters import filters
from bench.scenarios.fleet import fleet
from bench.scenarios.publications import publications
from bench.scenarios.recovery import Returned, storm
from bench.scenarios.requests import ping, telemetry
from bench.stream import Stream
from bench.subjects import Subject
from bench.switches import SWITCHES
from bench.target import Target, Time
from nexus_tw.protocols import frames

SHORT = Time(seconds=0.15, warmup=0.05, settle=0.05)
HASTY = Time(seconds=0.3, warmup=0.0, settle=0.3, patience=1.5)

Scenario = Callable[[Target, Time], Measure]

FOR_BOTH: dict[str, Scenario] = {
    "one event at a time": partial(fanout, subscribers=7, window=1, size=100),
    "many events, large": partial(fanout, subscribers=3, window=32, size=9000),
    "publications": partial(publications, connections=5, window=8),
    "handshakes": partial(handshakes, together=12, at_once=5),
    "memory": partial(memory, connections=20),
}
# Telemetry is compared with what a new server has stored, so it runs once for each server.
FOR_JSON: dict[str, Scenario] = {
    "telemetry": partial(telemetry, connections=5, window=8),
    "ping": partial(ping, connections=3, window=2),
    "filters": partial(filters, different=20, window=4),
    "fleet": partial(fleet, agents=6, rate=20, watchers=2, commands=40),
}
FOR_WAMP: dict[str, Scenario] = {"calls": partial(calls, connections=5, window=8)}
# Begins with a type that has no events, so it runs once for each server.
FOR_HISTORY: dict[str, Scenario] = {"recovery": partial(storm, subscribers=10, missed=120)}
SCENARIOS = {**FOR_BOTH, **FOR_JSON, **FOR_WAMP, **FOR_HISTORY}
SPOKEN_IN: dict[Dialect, dict[str, Scenario]] = {
    JSON: {**FOR_BOTH, **FOR_JSON},
    WAMP: {**FOR_BOTH, **FOR_WAMP},
    HISTORY: FOR_HISTORY,
}

SPOKEN: list[tuple[str, Dialect]] = [
    *((server, JSON) for server in ("nexus", "nexus-wss-redis", "autobahn", "websockets-wss")),
    *((server, WAMP) for server in ("nexus", "nexus-wss-redis")),
    *((server, HISTORY) for server in ("nexus", "nexus-wss-redis")),
]


@pytest.fixture(scope="module")
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    server, dialect = request.param
    if "websockets" in server and find_spec("websockets") is None:
        pytest.skip("the websockets library is not installed")
    with Subject(server).running(None, dialect) as running:
        yield running


@pytest.mark.parametrize(
    ("target", "scenario"),
    [
        pytest.param((server, dialect), scenario, id=f"{server}-{dialect.name}-{scenario}")
        for server, dialect in SPOKEN
        for scenario in SPOKEN_IN[dialect]
    ],
    indirect=["target"],
)
def test_every_scenario_finds_every_server_exact(target: Target, scenario: str) -> None:
    measure = SCENARIOS[scenario](target, SHORT)
    assert measure.messages > 0 and measure.seconds > 0
    assert 0 < measure.tool < 2


@pytest.mark.parametrize("switch", SWITCHES)
def test_with_any_part_of_the_design_switched_off_the_server_is_as_exact(switch: str) -> None:
    with Subject(f"nexus~{switch}").running(None, JSON) as target:
        for scenario in ("one event at a time", "telemetry", "filters"):
            assert SCENARIOS[scenario](target, SHORT).messages > 0


@pytest.mark.parametrize(
    ("lie", "scenario", "complaint"),
    [
        ("lose", partial(fanout, subscribers=3, window=64, size=100), "expected event 19, got"),
        ("lose", partial(fanout, subscribers=3, window=1, size=100), "something is lost"),
        ("repeat", partial(fanout, subscribers=3, window=1, size=100), "expected event 20, got"),
        ("reorder", partial(fanout, subscribers=3, window=64, size=100), "expected event 19, got"),
        ("change", partial(fanout, subscribers=3, window=1, size=100), "expected event 19, got"),
        ("misroute", partial(filters, different=5, window=2), "subscriber 0 expected event 20, got"),
        ("lose", partial(filters, different=5, window=16), "something is lost|subscriber 4 expected event 19, got"),
        ("no answer", partial(telemetry, connections=2, window=4), "something is lost"),
        ("two answers", partial(telemetry, connections=2, window=1), "more answers than requests|after the end came"),
        ("lose", partial(fleet, agents=2, rate=100, watchers=0, commands=0), "the watcher of unit-0001 expected sample"),
        ("repeat", partial(fleet, agents=2, rate=100, watchers=1, commands=0), "expected sample|two watchers"),
    ],
)
def test_what_a_server_loses_repeats_reorders_changes_or_misroutes_is_noticed(
    tmp_path: Path, lie: str, scenario: Callable[[Target, Time], Measure], complaint: str
) -> None:
    port = free_port()
    process = Process("liar", module("tests.liar", str(port), lie), port, tmp_path, environment(), None)
    try:
        process.wait()
        with pytest.raises(Inexact, match=complaint):
            scenario(Target(Address(port, False), process.pids), HASTY)
    finally:
        process.stop()


@pytest.mark.parametrize(
    ("lie", "scenario", "complaint"),
    [
        ("lose", partial(fanout, subscribers=3, window=64, size=100), "expected event 19, got"),
        ("lose", partial(fanout, subscribers=3, window=1, size=100), "something is lost"),
        ("repeat", partial(fanout, subscribers=3, window=1, size=100), "expected event 20, got"),
        ("reorder", partial(fanout, subscribers=3, window=64, size=100), "expected event 19, got"),
        ("change", partial(fanout, subscribers=3, window=1, size=100), "expected event 19, got"),
        ("another's answer", partial(fanout, subscribers=3, window=1, size=100), "acknowledgement of publication 1000000019"),
        ("lose", partial(publications, connections=1, window=64), "the subscriber got"),
        ("repeat", partial(publications, connections=3, window=1), "the subscriber got"),
        ("reorder", partial(publications, connections=1, window=64), "the subscriber got"),
        ("change", partial(publications, connections=3, window=1), "the subscriber got"),
        ("no answer", partial(publications, connections=1, window=64), "the acknowledgement of publication 1000000019"),
        ("two answers", partial(publications, connections=1, window=64), "the acknowledgement of publication 1000000020"),
        ("lose", partial(calls, connections=1, window=64), "the callee got"),
        ("lose", partial(calls, connections=1, window=1), "something is lost"),
        ("repeat", partial(calls, connections=3, window=1), "the callee got"),
        ("reorder", partial(calls, connections=1, window=64), "the callee got"),
        ("change", partial(calls, connections=3, window=1), "expected the result of call"),
        ("no answer", partial(calls, connections=1, window=64), "the result of call 1000000019"),
        ("two answers", partial(calls, connections=1, window=64), "the result of call 1000000020"),
        ("another's answer", partial(calls, connections=3, window=1), "expected the result of call"),
    ],
)
def test_the_same_is_noticed_of_a_wamp_router(tmp_path: Path, lie: str, scenario: Scenario, complaint: str) -> None:
    port = free_port()
    process = Process("liar", module("tests.wamp_liar", str(port), lie), port, tmp_path, environment(), None)
    try:
        process.wait()
        with pytest.raises(Inexact, match=complaint):
            scenario(Target(Address(port, False), process.pids, dialect=WAMP), HASTY)
    finally:
        process.stop()


@pytest.mark.parametrize(
    "wrong",
    [
        [36, 6, 1, {}, [7]],  # of another subscription
        [36, 5, 1, {}],
        [36, 5, 1, {}, []],
        [36, 5, 1, {}, [7, 8]],
        [36, 5, 1, {}, [7], {"more": 8}],
        [68, 5, 1, {}, [7]],
        {},
    ],
)
def test_an_event_of_wamp_has_its_subscription_and_one_argument(wrong: object) -> None:
    assert WAMP.event([36, 5, 1, {}, [7]], [33, 1, 5]) == 7
    with pytest.raises(Inexact, match="expected an event of subscription 5"):
        WAMP.event(wrong, [33, 1, 5])


class Replaying:
    """A link on which this comes."""

    def __init__(self, recovered: bool, *events: bytes) -> None:
        answer = {"type": "subscribed", "recovered": {"task.updated": recovered}}
        self._data = wire.framed(msgspec.json.encode(answer)) + b"".join(map(wire.framed, events))

    def receive(self) -> bytes:
        return self._data

    def frames(self, data: bytes) -> list[bytes]:
        return [payload for _, payload in wire.cut(data)[0]]


@pytest.mark.parametrize(
    ("link", "complaint"),
    [
        (Replaying(False, b"1", b"2"), "not recovered"),
        (Replaying(True, b"1", b"3"), "in place of"),
        (Replaying(True, b"2"), "in place of"),
        (Replaying(True, b"1", b"1", b"2"), "in place of"),
        (Replaying(True, b"1", b"2", b"3"), "in place of"),
    ],
)
def test_a_recovery_that_is_refused_or_not_exact_is_noticed(link: Any, complaint: str) -> None:
    expected = wire.framed(b"1") + wire.framed(b"2")
    exact: Any = Replaying(True, b"1", b"2")
    assert Returned(exact, expected).take()
    part: Any = Replaying(True, b"1")
    assert not Returned(part, expected).take()
    with pytest.raises(Inexact, match=complaint):
        Returned(link, expected).take()


def test_a_server_without_history_cannot_run_the_storm() -> None:
    assert HISTORY not in Subject("autobahn").dialects
    with Subject("nexus-live").running(None, HISTORY) as target, pytest.raises(Unable, match="keeps no history"):
        storm(target, SHORT, subscribers=1, missed=1)


def test_a_server_that_takes_the_upgrade_but_not_the_subprotocol_is_noticed() -> None:
    upgrade = wire.Upgrade("here", "/ws", "wamp.2.json")
    key = upgrade.request.partition(b"Sec-WebSocket-Key: ")[2][:24]
    accept = b64encode(sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest())
    head = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: " + accept
    upgrade.check(head + b"\r\nSec-WebSocket-Protocol: wamp.2.json")
    for wrong in (head, head + b"\r\nSec-WebSocket-Protocol: wamp.2.json.batched"):
        with pytest.raises(Inexact, match="no upgrade"):
            upgrade.check(wrong)


def test_telemetry_that_was_acknowledged_but_is_not_stored_is_noticed() -> None:
    with Subject("nexus").running(None, JSON) as target:
        forgetful = Target(target.address, target.pids, lambda: {"agent-0000": (1, 1)})
        with pytest.raises(Inexact, match="were acknowledged; kept"):
            telemetry(forgetful, SHORT, connections=1, window=1)


def test_a_server_that_does_not_start_is_no_measurement_and_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no, thanks')"]
    process = Process("none", command, free_port(), tmp_path, environment(), None)
    with pytest.raises(Unable, match="no, thanks"):
        process.wait()


class Script(Link):
    """A link that reads the given bytes."""

    def __init__(self, number: int) -> None:
        super().__init__(Address(0, False), JSON.handshake)
        self.close()
        self.fd = number
        self.parts: list[bytes] = []

    def receive(self) -> bytes:
        return self.parts.pop(0) if self.parts else b""


def message(index: int) -> bytes:
    return b'{"i":%d,"pad":"%b"}' % (index, b"x" * (index % 200))


def expect(index: int, found: dict[str, object]) -> None:
    if found["i"] != index:
        raise Inexact(f"expected {index}, got {found['i']}")


def test_a_stream_is_followed_wherever_it_is_cut_and_whatever_comes_between() -> None:
    chance = random.Random(7)
    ping_of_the_server = frames.frame(frames.PING, b"")
    links = [Script(number) for number in range(5)]
    stream = Stream(links, expect)
    for link in links:
        data = b"".join(frames.text(message(index)) + ping_of_the_server * (chance.random() < 0.1) for index in range(300))
        while data:
            size = chance.choice((1, 3, 50, 700))
            link.parts.append(data[:size])
            data = data[size:]
        # A pong has nowhere to go.
        link.send = lambda data: None  # type: ignore[method-assign]
    while any(link.parts for link in links):
        stream.take(chance.choice(links).fd)
    assert stream.lowest == 300
    assert stream.received == 1500


@pytest.mark.parametrize("wrong", [[0, 2], [0, 0], [1, 0], [0, 1, 1]])
def test_a_stream_that_is_not_in_order_is_noticed_by_the_first_and_by_all_others(wrong: list[int]) -> None:
    for honest in (0, 1):
        links = [Script(0), Script(1)]
        stream = Stream(links, expect)
        if honest:
            links[0].parts.append(b"".join(frames.text(message(index)) for index in range(5)))
            stream.take(0)
        links[honest].parts.append(b"".join(frames.text(message(index)) for index in wrong))
        with pytest.raises(Inexact):
            stream.take(honest)


def test_answers_are_counted_in_bulk_and_one_by_one_alike() -> None:
    link = Script(0)
    replies = Replies(link, "pong")
    answer = frames.text(b'{"type":"pong"}')
    assert replies.count(answer * 3) == 3
    assert replies.count(answer * 64) == 64
    assert replies.count(answer[:5]) == 0
    assert replies.count(answer[5:] + answer) == 2
    assert replies.count(frames.text(b'{"type":"pong","n":1}') + answer) == 2
    with pytest.raises(Inexact, match="expected pong"):
        replies.count(answer + frames.text(b'{"type":"bong"}'))


@pytest.mark.parametrize("size", [0, 1, 50, 200, 70000])
def test_numbered_messages_are_frames_that_the_server_reads(size: int) -> None:
    made = wire.Numbered(b'{"pad":"%b","i":%%d}' % (b"x" * size))
    found: list[bytes] = []

    def receive(payload: bytes, _is_binary: bool) -> bool:
        found.append(payload)
        return True

    data = made.frame(7)
    if size < 65536:  # longer ones are not for the lane
        assert frames.split(data, 0, receive) == (len(data), 1)
        assert found == [b'{"pad":"%b","i":1000000007}' % (b"x" * size)]
    else:
        key = data[10:14]
        assert frames.unmask(key, data[14:]).endswith(b'"i":1000000007}')


def test_a_number_may_stand_in_several_places_of_a_message() -> None:
    made = wire.Numbered(b'[16,%d,"task",[{"i":%d}]]')
    found: list[bytes] = []

    def receive(payload: bytes, _is_binary: bool) -> bool:
        found.append(payload)
        return True

    for number in (0, 12345):
        frames.split(made.frame(number), 0, receive)
    assert found == [b'[16,1000000000,"task",[{"i":1000000000}]]', b'[16,1000012345,"task",[{"i":1000012345}]]']


def bench(*arguments: str, crossbar: str = "") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), VARIABLE: crossbar}
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=env, cwd=ROOT, timeout=60)


def test_runs_are_told_as_a_table_and_kept_as_lines_that_fill_the_page(tmp_path: Path) -> None:
    results, page = tmp_path / "results.jsonl", tmp_path / "page.md"
    short = ["--rounds", "1", "--seconds", "0.1", "--warmup", "0", "--json", str(results)]
    compared = bench("run", "ping1", "--servers", "autobahn,nexus", *short)
    assert compared.returncode == 0, compared.stderr
    assert compared.stdout.count("| autobahn | 1 |") == compared.stdout.count("| nexus | 1 |") == 1
    assert [json.loads(line)["server"] for line in results.read_text().splitlines()] == ["autobahn", "nexus"]
    switched = bench("switches", "direct", *short)
    assert switched.returncode == 0, switched.stderr

    page.write_text((ROOT / "docs" / "performance.md").read_text())
    for _ in range(2):  # what was written before is replaced
        assert bench("report", str(results), "--page", str(page)).returncode == 0
        text = page.read_text()
        assert text.count(f"### {CELLS['ping1'].title}") == 1
        assert text.count("| direct |") == len(SWITCHES["direct"].cells)
    drawing = ElementTree.parse(tmp_path / "page-json.svg").getroot()
    assert any("JSON ping, 1 connection" in (element.text or "") for element in drawing.iter())


def test_figures_of_one_dialect_leave_those_of_the_other_as_they_are(tmp_path: Path) -> None:
    results, page = tmp_path / "results.jsonl", tmp_path / "page.md"
    page.write_text((ROOT / "docs" / "performance.md").read_text())
    for cell, other in (("ping1", "wamp-call1"), ("wamp-call1", "ping1")):
        row = Row(cell, "nexus", 0, rate=12345.0, cost_us=10.0, machine={"cores": 2})
        results.write_bytes(msgspec.json.encode(row))
        before = page.read_text().count(f"### {CELLS[other].title}\n")
        assert bench("report", str(results), "--page", str(page)).returncode == 0
        text = page.read_text()
        assert text.count(f"### {CELLS[cell].title}\n") == 1
        assert text.count(f"### {CELLS[other].title}\n") == before
        assert text.count("| nexus | 1 | 12.3k [12.3k-12.3k] |") == (1 if cell == "ping1" else 2)


def test_each_server_runs_the_cells_whose_dialect_it_speaks_and_a_crossbar_that_is_not_there_is_said(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    short = ["--rounds", "1", "--seconds", "0.1", "--warmup", "0", "--json", str(results)]
    done = bench("run", "ping1", "wamp-publish1", "--servers", "crossbar,nexus", *short)
    assert done.returncode == 0, done.stderr
    rows = report.read(results)
    ran = [(row.cell, row.server) for row in rows]
    assert ran == [("ping1", "nexus"), ("wamp-publish1", "crossbar"), ("wamp-publish1", "nexus")]
    assert VARIABLE in rows[1].failed
    assert not rows[1].inexact
    assert rows[2].rate > 0
    assert f"| crossbar | 0 | no Crossbar.io: {VARIABLE}" in done.stdout


CROSSBAR = """#!{python}
import json, subprocess, sys, time
directory = sys.argv[sys.argv.index("--cbdir") + 1]
configuration = json.load(open(directory + "/config.json"))
transport = configuration["workers"][0]["transports"][0]
assert transport["paths"]["ws"]["serializers"] == ["json"]
assert configuration["workers"][0]["realms"][0]["name"] == "realm1"
worker = [sys.executable, "-m", "tests.wamp_liar", str(transport["endpoint"]["port"]), "nothing"]
sys.exit(subprocess.run(worker).returncode)
"""


def test_a_crossbar_is_run_with_its_workers_and_stopped_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs here is no Crossbar.io, but takes its command and the configuration, and has a worker as it does."""
    program = tmp_path / "bin" / "crossbar"
    program.parent.mkdir()
    program.write_text(CROSSBAR.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with Subject("crossbar").running(None, WAMP) as target:
        ends = [os.pidfd_open(pid) for pid in target.pids]
        assert len(ends) == 2
        for scenario in (*FOR_BOTH, *FOR_WAMP):
            assert SCENARIOS[scenario](target, SHORT).messages > 0
    for end in ends:
        assert select.select([end], [], [], 20.0)[0]
        os.close(end)


def test_every_cell_and_switch_and_row_of_harm_is_listed() -> None:
    listed = bench("list")
    assert listed.returncode == 0
    assert all(name in listed.stdout for name in (*CELLS, *SWITCHES, *registry.ROWS))


def test_harm_is_measured_with_bystanders_told_as_a_table_and_kept_as_lines_that_fill_the_page(tmp_path: Path) -> None:
    results, page = tmp_path / "harm.jsonl", tmp_path / "page.md"
    done = bench("harm", "dots", "--json", str(results))
    assert done.returncode in (0, 1), done.stderr  # what was measured is judged by who reads it, not here
    assert done.stdout.count("| `dots` |") == 1
    harm = msgspec.json.decode(results.read_bytes(), type=Harm)
    assert harm.sent > 0 and harm.ordinary > 0 and harm.ping_p50 > 0
    assert harm.hurt == []
    page.write_text((ROOT / "docs" / "security.md").read_text())
    for _ in range(2):
        assert bench("harm-report", str(results), "--page", str(page)).returncode == 0
        assert page.read_text().count("| `dots` |") == 1
    assert page.read_text().count("## Reporting") == 1


@pytest.mark.parametrize(
    ("figures", "misses"),
    [
        ({"sent": 1000, "cpu": 1.0, "ordinary": 0.1}, []),
        ({"sent": 1000, "cpu": 1.1, "ordinary": 0.1}, ["CPU"]),
        ({"sent": 10**7, "grown": 8 * 10**7}, []),
        ({"sent": 10**7, "grown": 9 * 10**7}, ["memory"]),
        ({"sent": 10**7, "left": 10**7}, ["memory that stays"]),
        ({"ping_p99": 26.0}, ["ping"]),
        ({"hurt": ["reader closed: 4001"]}, ["others"]),
    ],
)
def test_what_is_beyond_an_aim_is_said(figures: dict[str, Any], misses: list[str]) -> None:
    assert Harm("dots", **figures).misses == misses


@pytest.mark.parametrize(("name", "few", "many"), [("hoard", 33 << 20, 64 << 20), ("mixed-7", 19 << 18, 64 << 20)])
def test_what_is_remembered_by_design_may_stay_up_to_its_bound(name: str, few: int, many: int) -> None:
    kept, what = registry.row(name).kept
    assert few <= kept < many and what
    assert Harm(name, left=kept).misses == []
    assert Harm(name, left=kept + (5 << 20)).misses == ["memory that stays"]
    assert registry.row("targets").kept == (0, ""), "what is within the noise needs no bound"


def test_the_last_run_of_each_row_counts_and_every_combination_can_be_drawn_again() -> None:
    harms = [Harm("mixed-7"), Harm("dots", sent=1), Harm("pipelined"), Harm("dots", sent=2)]
    assert [(harm.row, harm.sent) for harm in latest(harms)] == [("pipelined", 0), ("dots", 2), ("mixed-7", 0)]
    assert "seed 7" in registry.row("mixed-7").what
    with pytest.raises(KeyError):
        registry.row("mixed-x")


@pytest.mark.parametrize(
    "wrong",
    [
        ["run", "nothing"],
        ["run", "--servers", "apache"],
        ["run", "ping1", "--servers", "crossbar"],  # which does not speak it
        ["switches", "nothing"],
        ["harm", "nothing"],
        [],
    ],
)
def test_what_there_is_not_cannot_be_run(wrong: list[str]) -> None:
    assert bench(*wrong).returncode == 2


@pytest.mark.parametrize("name", ["apache", "nexus-fast", "autobahn-redis", "crossbar-redis", "autobahn~lane", "nexus~nothing"])
def test_a_server_that_there_is_not_has_no_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"server|switches"):
        Subject(name)


def test_every_switch_is_shown_by_cells_that_there_are() -> None:
    assert all(cell in CELLS for switch in SWITCHES.values() for cell in switch.cells)


def test_ratios_are_of_medians_and_failed_runs_are_shown_but_not_counted() -> None:
    rows = [Row("ping1", "autobahn", number, rate=rate, cost_us=10.0) for number, rate in enumerate((90.0, 100.0, 500.0))]
    rows += [Row("ping1", "nexus", number, rate=200.0, cost_us=5.0) for number in range(2)]
    rows.append(Row("ping1", "nexus", 2, failed="something is lost", inexact=True))
    table = report.table(rows, "ping1").splitlines()
    assert table[2].startswith("| autobahn | 3 | 100 [90-500] | 1.00 | 10 [10-10] | 1.00 |")
    assert table[3].startswith("| nexus | 2 (others failed) | 200 [200-200] | 2.00 | 5 [5-5] | 0.50 |")
