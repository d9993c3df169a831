"""The commands that hold a session, as real processes against a real server."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from nexus_client.cli.program import nexus

from tests.clients.cli.program import Program, Running, wait_for
from tests.e2e.server import Child, NexusServer, answers, free_port


def told(running: Running) -> list[dict[str, Any]]:
    """Return the JSON lines on standard error."""
    return [json.loads(line) for line in running.err.splitlines()]


def subscribed(program: Program, pattern: str, *arguments: str) -> Running:
    """Start `nexus subscribe` and wait until it receives events."""
    running = program.start("subscribe", pattern, "probe", *arguments, "--json")
    for _ in range(50):
        program("publish", "probe", "probe=true", "n=2", "agentId=cli-3")
        if running.out:
            return running
    raise AssertionError(f"50 events did not reach it: {running.err}")


def events(running: Running) -> list[dict[str, Any]]:
    return [each for each in running.records() if each.get("eventType") != "probe"]


def serving(program: Program, server: NexusServer, name: str, line: str, *options: str) -> Running:
    """Start `nexus serve-command` for a shell's line and wait until the server knows it."""
    running = program.start("serve-command", name, *options, "--json", "--", "sh", "-c", line)
    running.until(lambda: "serving" in running.err, "its start")
    command = ("command", name, "--timeout", "5", "--json")
    wait_for(lambda: program.start(*command, "probe=1").process.wait(20) == 0, f"{name} to be served")
    return running


# --- subscribe and publish


def test_what_is_published_is_shown_in_order_with_its_position(program: Program) -> None:
    watcher = subscribed(program, "cli.**", "--where", "n>=2")
    program("publish", "cli.one", "n=1", "text=below")
    single = program("publish", "cli.one", "n=2", 'text="1"', "--json").records()[0]
    lines = "".join(f'{{"n": {number}}}\n' for number in range(3, 60)) + "\n"
    several = program("publish", "cli.two", "--json", stdin=lines).records()
    watcher.until(lambda: len(events(watcher)) == 58, "58 events")
    watcher.interrupt()
    assert watcher.ended() == 130
    assert watcher.err == ""
    shown = events(watcher)
    assert shown[0] == {"type": "event", "eventType": "cli.one", "data": {"n": 2, "text": "1"}, "position": single["position"]}
    assert [each["data"]["n"] for each in shown[1:]] == list(range(3, 60))
    assert [each["position"] for each in several] == [each["position"] for each in shown[1:]]


def test_positions_are_saved_and_the_next_run_goes_on_from_them(program: Program, tmp_path: Path) -> None:
    file = str(tmp_path / "seen.json")
    both = ("--since", file, "--save", file)
    first = program.start("subscribe", "cli.resumed", *both, "--count", "1", "--json")
    for _ in range(50):
        program("publish", "cli.resumed", "0")
        if first.process.poll() is not None:
            break
    assert first.ended() == 0
    seen = first.records()[0]["position"]
    assert json.loads(Path(file).read_text()) == {"cli.resumed": seen}
    program("publish", "cli.resumed", "--json", stdin="1\n2\n3\n")
    history = program("history", "cli.resumed", "--since", seen, "--json").records()
    second = program("subscribe", "cli.resumed", *both, "--count", str(len(history)), "--json")
    assert [each["position"] for each in second.records()] == [each["position"] for each in history]
    gone = program.start("subscribe", "cli.resumed", "--since", '{"cli.resumed": "other:1"}', "--json")
    gone.until(gone.records, "the gap")
    gone.interrupt(signal.SIGTERM)
    assert gone.ended() == 143
    gap = gone.records()[0]
    assert (gap["type"], gap["eventType"], gap["reason"]) == ("gap", "cli.resumed", "reconnect")


def test_a_line_that_is_no_json_is_named_and_those_before_it_are_published(program: Program) -> None:
    running = program("publish", "cli.lines", "--json", stdin="1\n\n{broken\n3\n", status=2)
    assert "line 3: '{broken" in told(running)[-1]["message"]
    assert len(running.records()) == 1
    assert len(program("history", "cli.lines", "--json").records()) == 1


def test_a_closed_pipe_ends_it_quietly(program: Program) -> None:
    done = program.shell("(while :; do echo 1; sleep 0.05; done) | nexus publish cli.pipe 2>err | head -n 1; cat err >&2")
    assert done.stdout.startswith("published cli.pipe")
    assert done.stderr == ""


def test_a_refusal_ends_with_its_code_and_the_token_is_nowhere(program: Program) -> None:
    running = program("publish", "nexus.reserved", "1", "--json", status=1)
    assert told(running)[0]["code"] == "forbidden"
    for command in (("publish", "a.b", "1"), ("subscribe", "a.b")):
        running = program(*command, "--token", "hush-hush", "--json", status=1)
        assert told(running)[-1]["code"] == "unauthorized"
        assert "hush" not in running.err
    assert "hint: give a valid token" in program("subscribe", "a.b", "--token", "hush", status=1).err


def test_an_address_where_nobody_listens_fails_at_once(program: Program) -> None:
    running = program("subscribe", "a.b", "--url", f"http://127.0.0.1:{free_port()}", "--json", status=1)
    assert told(running)[-1]["code"] == "unreachable"
    assert "connection refused" in told(running)[-1]["message"]


def test_telemetry_with_a_refused_token_says_so_and_keeps_its_samples(program: Program) -> None:
    spool = ("--spool", "refused.db")
    running = program("telemetry", "cli-5", "cpu=1", *spool, "--token", "hush", "--json", status=1)
    assert told(running)[-1]["code"] == "unauthorized"
    assert "hush" not in running.err
    assert program("telemetry", "cli-5", "cpu=2", *spool).out == "stored 1 of 1 samples of cli-5\n"


def test_a_lost_connection_is_told_and_what_was_missed_is_shown(
    program: Program, server: NexusServer, tmp_path: Path
) -> None:
    port, relay = free_port(), Child("relay", tmp_path)

    def connect() -> None:
        listen, to = f"TCP-LISTEN:{port},fork,reuseaddr,bind=127.0.0.1", f"TCP:127.0.0.1:{server.port}"
        relay.spawn(["socat", listen, to], os.environ, tmp_path)
        wait_for(lambda: answers(port), "the relay")

    connect()
    try:
        watcher = subscribed(program, "cli.lost", "--url", f"http://127.0.0.1:{port}")
        relay.discard()
        watcher.until(lambda: "connection refused" in watcher.err, "the loss, and an attempt")
        program("publish", "cli.lost", "1")
        connect()
        watcher.until(lambda: "connected again" in watcher.err, "the return")
        program("publish", "cli.lost", "2")
        watcher.until(lambda: len(events(watcher)) >= 2, "both events")
        watcher.interrupt()
        assert watcher.ended() == 130
    finally:
        relay.discard()
    assert [each["data"] for each in events(watcher)] == [1, 2]
    states = [each["state"] for each in told(watcher) if each["type"] == "state"]
    assert (states[0], states[-1]) == ("waiting", "connected")


# --- commands


def test_a_shell_is_an_agent(program: Program, server: NexusServer) -> None:
    answer = '{\\"to\\": \\"$NEXUS_PARAM_WHO\\", \\"by\\": \\"$NEXUS_CALLER\\"}'
    line = f'test -n "$NEXUS_PARAM_PROBE" && exit; echo 50; sleep 0.3; echo "{answer}"'
    agent = serving(program, server, "greet", line, "--agent", "shell-1")
    running = program("command", "greet", "who=it's me", "--target", "shell-1")
    assert json.loads(running.out) == {"to": "it's me", "by": "admin"}
    assert running.err == "shell-1  50\n"
    records = program("command", "greet", "who=x", "--target", "shell-1", "--id", "greet-1", "--json").records()
    assert records[0] == {"type": "command_progress", "agentId": "shell-1", "data": 50}
    assert records[1]["result"] == {"to": "x", "by": "admin"}
    again = program("command", "greet", "who=x", "--target", "shell-1", "--id", "greet-1", "--json").records()
    assert again[-1] == records[1]
    started = [each for each in agent.records() if each["type"] == "started"]
    both = program("command", "greet", "who=y", "--target", "shell-1", "--target", "shell-2", "--json", status=1).records()
    results = [each for each in both if each["type"] == "command_result"]
    assert [(each["agentId"], each["status"], each.get("code")) for each in results] == [
        ("shell-2", "error", "agent_offline"),  # who is away has ended already
        ("shell-1", "success", None),
    ]
    assert len([each for each in agent.records() if each["type"] == "started"]) == len(started) + 1
    agent.interrupt()
    assert agent.ended() == 130


def test_each_of_several_agents_has_a_line_as_it_ends(program: Program, server: NexusServer, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    probe = 'test -n "$NEXUS_PARAM_PROBE" && exit; '
    serving(program, server, "step", f"{probe}echo 1", "--agent", "step-1")
    slow = program.start(
        *("serve-command", "step", "--agent", "step-2", "--json", "--"),
        *("sh", "-c", f"until test -e {gate}; do sleep 0.1; done; echo no >&2; exit 1"),
    )
    slow.until(lambda: "serving" in slow.err, "its start")
    both = program.start("command", "step", "--target", "step-1", "--target", "step-2", "--ttl", "20")
    both.until(lambda: both.out == "step-1  success  1\n", "the first outcome")
    gate.touch()
    assert both.ended() == 1
    assert both.out == "step-1  success  1\nstep-2  error  failed: Command execution failed: no\n"


def test_a_program_that_fails_fails_the_command_with_its_last_words(program: Program, server: NexusServer) -> None:
    agent = serving(program, server, "fail", 'test -n "$NEXUS_PARAM_PROBE" && exit; echo disk full >&2; exit 3')
    running = program("command", "fail", "--json", status=1)
    assert (told(running)[0]["code"], told(running)[0]["message"]) == ("failed", "Command execution failed: disk full")
    assert [each["message"] for each in told(agent) if each["type"] == "stderr"] == ["disk full"]
    agent.interrupt(signal.SIGTERM)
    assert agent.ended() == 143


def test_ctrl_c_cancels_the_command_and_ends_the_program(program: Program, server: NexusServer, tmp_path: Path) -> None:
    farewell = tmp_path / "farewell"
    trap = f"trap 'echo bye >{farewell}; exit' TERM"
    line = f'test -n "$NEXUS_PARAM_PROBE" && exit; {trap}; echo 1; while :; do sleep 0.05; done'
    agent = serving(program, server, "endless", line)
    caller = program.start("command", "endless", "--json")
    caller.until(caller.records, "progress")
    caller.interrupt()
    assert caller.ended() == 130
    assert told(caller)[-1]["status"] == "cancelled"
    wait_for(farewell.exists, "the program's end")
    wait_for(lambda: agent.records()[-1]["type"] == "cancelled", "the agent to say so")
    # An agent that is ended ends what it runs, too.
    farewell.unlink()
    caller = program.start("command", "endless", "--json")
    caller.until(caller.records, "progress")
    agent.interrupt()
    assert agent.ended() == 130
    assert farewell.exists()


def test_a_command_that_nobody_serves_is_told_with_a_hint(program: Program) -> None:
    running = program("command", "nobody.serves.this", status=1)
    assert "nexus serve-command" in running.err


# --- telemetry


def test_samples_are_stored_and_told(program: Program) -> None:
    watcher = subscribed(program, "telemetry.received", "--where", 'agentId={"prefix": "cli-"}')
    assert program("telemetry", "cli-1", "cpu=45.2", "disk.used=0.5", "state=idle").out == "stored 1 of 1 samples of cli-1\n"
    lines = '{"cpu": 1}\n{"timestamp": "%s", "metrics": {"cpu": 2}}\n'
    from datetime import UTC, datetime

    then = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    record = program("telemetry", "cli-2", "--stdin", "--json", stdin=lines % then).records()[0]
    assert record == {"type": "telemetry", "agentId": "cli-2", "stored": 2, "kept": 0}
    watcher.until(lambda: len(events(watcher)) == 3, "3 samples")
    watcher.interrupt()
    watcher.ended()
    data = [each["data"] for each in events(watcher)]
    assert [(each["agentId"], each["metrics"]) for each in data] == [
        ("cli-1", {"cpu": 45.2, "disk.used": 0.5, "state": "idle"}),
        *(("cli-2", {"cpu": number}) for number in (1, 2)),
    ]
    assert data[2]["timestamp"] == then


def test_samples_wait_in_a_spool_until_the_server_is_there(program: Program) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    spool = ("--spool", "samples.db")
    running = program("telemetry", "cli-3", "cpu=1", *spool, "--wait", "0.1", "--url", away)
    assert "1 samples stay in samples.db" in running.err
    watcher = subscribed(program, "telemetry.received", "--where", "agentId=cli-3")
    assert program("telemetry", "cli-3", "cpu=2", *spool, "--json").records()[0]["kept"] == 0
    watcher.until(lambda: len(events(watcher)) == 2, "2 samples")
    watcher.interrupt()
    watcher.ended()
    assert [each["data"]["metrics"]["cpu"] for each in events(watcher)] == [1, 2]


def test_a_sample_that_the_server_refuses_is_told(program: Program) -> None:
    old = ("--timestamp", "2001-01-01T00:00:00Z")
    running = program("telemetry", "cli-4", "cpu=1", *old, "--json", status=1)
    assert told(running)[-1]["code"] == "limit_exceeded"
    assert running.records()[0]["stored"] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("telemetry", "a-1", "cpu=null"), "metrics.cpu: expected a number"),
        (("telemetry", "a-1", "cpu=1", "--timestamp", "noon"), "'noon' is not ISO 8601"),
        (("subscribe", "a..b"), "a..b"),
        (("publish", "a b", "1"), "type: "),
    ],
)
def test_what_cannot_be_is_wrong_usage(program: Program, arguments: tuple[str, ...], says: str) -> None:
    assert says in program(*arguments, status=2).err


# --- what is sent


@pytest.mark.parametrize(
    "command",
    [
        ("subscribe", "a.**", "b", "--where", "n>1"),
        ("subscribe", "a", "--since", '{"a": "x:1"}'),
        ("publish", "a.b", "text=it's"),
        ("telemetry", "a-1", "cpu=1"),
        ("command", "deploy", "version=1", "--target", "a-1", "--id", "c-1"),
        ("serve-command", "deploy", "--agent", "a-1", "--", "true"),
    ],
)
def test_curl_prints_a_line_that_a_shell_can_read_and_sends_nothing(program: Program, command: tuple[str, ...]) -> None:
    away = ("--url", f"https://127.0.0.1:{free_port()}", "--token", "hush", "--insecure")
    line = CliRunner().invoke(nexus, [command[0], *away, "--curl", *command[1:]], catch_exceptions=False).output
    assert "hush" not in line
    fake = 'websocat() { echo websocat "$@"; cat; }; curl() { echo curl "$@"; }; NEXUS_TOKEN=the-token; '
    done = program.shell(fake + line)
    assert done.stderr == ""
    assert "Authorization: Bearer the-token" in done.stdout
    for text in re.findall(r"^\{.*\}$", done.stdout, re.MULTILINE):
        json.loads(text)


def test_curl_publishes_and_subscribes_like_the_command(program: Program) -> None:
    assert "published" in program.shell(program("publish", "cli.curl", "n=1", "--curl").out).stdout
    line = program("subscribe", "cli.curl", "--where", "n=2", "--curl").out.strip()
    first = f'exec 3< <(exec {line}); watcher=$!; IFS= read -r -t 20 said <&3; echo "$said"; kill "$watcher"'
    assert program.shell(first).stdout.startswith("retry: ")


# --- people


def test_people_on_a_terminal_get_colours_and_tables(program: Program) -> None:
    program("publish", "cli.pty", "text=\x1b[31mred")
    shown = program.on_terminal("history", "cli.pty")
    assert "\x1b[36mcli.pty" in shown
    assert "\\u001b[31mred" in shown
    program("context", "add", "dev", "--url", "http://localhost:3000", "--token", "a-token-of-some-length")
    table = program.on_terminal("context", "list")
    assert re.search(r"\x1b\[1mname", table)
    assert "a-to… (22 characters)" in table
    assert "\x1b[31m" in program.on_terminal("context", "use", "nothing")
    program.env["NO_COLOR"] = "1"
    assert "\x1b[3" not in program.on_terminal("history", "cli.pty")
