"""status, history, and what administrators do, against a real server."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from nexus_client.cli import http
from nexus_client.cli.program import nexus
from nexus_client.cli.target import find
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.certificates import authority, issue
from tests.clients.cli.program import Program
from tests.e2e.server import NexusServer, free_port


def run(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(nexus, [*arguments])
    assert result.exit_code == status, result.output
    return result


@pytest.fixture(autouse=True)
def environment(server: NexusServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_URL", server.http)
    monkeypatch.setenv("NEXUS_TOKEN", server.token)


def publish(kind: str, count: int) -> list[str]:
    """Publish numbered events. Return their positions."""
    body = [{"eventType": kind, "data": {"n": number}} for number in range(count)]
    answer = http.post(find({}), "/api/v1/events", body)
    return [each["position"] for each in answer["published"]]


def test_the_status_tells_version_readiness_and_whether_the_token_is_taken(server: NexusServer) -> None:
    record = json.loads(run("status", "--json").stdout)
    assert (record["ready"], record["access"], record["url"], record["from"]) == (True, "accepted", server.http, "NEXUS_URL")
    assert (record["subject"], record["role"]) == ("admin", "admin")
    assert record["version"] == "0.1.0"
    assert record["counts"].keys() >= {"connections", "events_published_total"}
    refused = json.loads(run("status", "--json", "--token", "wrong", status=1).stdout)
    assert (refused["ready"], refused["access"], refused["version"]) == (True, "refused", "0.1.0")
    assert "counts" not in refused
    assert "subject" not in refused
    assert "token is accepted, for admin with the role admin\n" in run("status").stdout
    assert "token is refused" in run("status", "--token", "wrong", status=1).stdout


def test_the_history_is_shown_in_order_by_pages(server: NexusServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from nexus_client.cli.commands import history

    monkeypatch.setattr(history, "PAGE", 3)
    positions = publish("history.pages", 8)
    shown = [json.loads(line) for line in run("history", "history.pages", "--json").stdout.splitlines()]
    assert [(each["position"], each["data"]["n"]) for each in shown] == list(zip(positions, range(8), strict=True))
    some = run("history", "history.pages", "--since", positions[1], "--limit", "4").stdout.splitlines()
    assert [re.sub(r"^\S+  ", "", line) for line in some] == [f'history.pages  {{"n": {n}}}' for n in (2, 3, 4, 5)]
    assert "no event of history.none is kept" in run("history", "history.none").stderr


def test_events_that_are_gone_are_told_in_their_place(server: NexusServer) -> None:
    publish("history.gone", 2)
    shown = [json.loads(line) for line in run("history", "history.gone", "--since", "other:7", "--json").stdout.splitlines()]
    assert [each["type"] for each in shown] == ["gap", "event", "event"]


def test_a_page_that_is_too_large_is_asked_for_in_smaller_ones(server: NexusServer) -> None:
    body = {"eventType": "history.large", "data": "x" * 250_000}
    for _ in range(4):
        http.post(find({}), "/api/v1/events", body)
    shown = run("history", "history.large", "--json").stdout.splitlines()
    assert len(shown) == 4


def test_a_refusal_is_told_in_the_servers_words_with_its_code(server: NexusServer) -> None:
    told = json.loads(run("history", "a", "--token", "wrong", "--json", status=1).stderr)
    assert (told["code"], told["message"]) == ("unauthorized", "A valid token is needed")
    assert "wrong" not in json.dumps(told)
    assert "Invalid message format: eventType" in run("history", "a..b", status=1).stderr


def test_a_broadcast_tells_how_many_it_reached(server: NexusServer) -> None:
    assert json.loads(run("broadcast", "a=1", "--json").stdout) == {"type": "broadcast", "recipients": 0}


def test_who_is_connected_is_shown_and_disconnected(server: NexusServer) -> None:
    assert "nobody is connected" in run("connections").stderr
    with connect(f"{server.ws}?token={server.token}") as socket:
        client_id = json.loads(socket.recv())["clientId"]
        (row,) = map(json.loads, run("connections", "--json").stdout.splitlines())
        assert (row["clientId"], row["subject"], row["protocol"]) == (client_id, "admin", "nexus.v1.json")
        assert "admin" in run("connections").stdout
        assert run("connections", "--subject", "somebody", "--json").stdout == ""
        assert run("disconnect", client_id).stdout == f"closed {client_id}\n"
        assert json.loads(socket.recv())["type"] == "disconnect"
        with pytest.raises(ConnectionClosed) as ended:
            socket.recv()
        assert ended.value.rcvd is not None and ended.value.rcvd.code == 4502
    assert "No such connection" in run("disconnect", client_id, status=1).stderr


def test_agents_are_shown_sorted_and_by_their_ids(server: NexusServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from nexus_client.cli.commands import agents

    monkeypatch.setattr(agents, "PAGE", 2)
    monkeypatch.setenv("COLUMNS", "200")
    assert "no such agents" in run("agents", "--query", "shown.").stderr
    with connect(f"{server.ws}?token={server.token}") as socket:
        socket.recv()
        for name in ("shown.1", "shown.2", "shown.3"):
            socket.send(json.dumps({"type": "register", "agentId": name, "commands": ["deploy", "restart"]}))
            assert json.loads(socket.recv())["type"] == "registered"
        rows = [json.loads(line) for line in run("agents", "--query", "shown.", "--json").stdout.splitlines()]
        assert [row["agentId"] for row in rows] == ["shown.1", "shown.2", "shown.3"]
        assert rows[0]["commands"] == ["deploy", "restart"]
        back = run("agents", "--query", "shown.*", "--sort", "-agentId", "--status", "online").stdout.splitlines()
        assert [line.split()[0] for line in back] == ["agentId", "shown.3", "shown.2", "shown.1"]
        assert "deploy restart" in back[1]
        assert json.loads(run("agents", "shown.2", "--json").stdout) == rows[1]
        line = run("agents", "shown.2", "--curl").stdout
        assert "/api/v1/agents/shown.2" in line
    assert "No such agent" in run("agents", "a/b", status=1).stderr
    assert "for the list" in run("agents", "shown.2", "--status", "online", status=2).stderr


def test_what_is_revoked_is_shown_and_lifted() -> None:
    assert "nothing is revoked" in run("revoke").stderr
    assert run("revoke", "--subject", "agent-007").stdout == "revoked subject agent-007, 0 connections closed\n"
    assert json.loads(run("revoke", "--jti", "t-1", "--until", "2999-01-01", "--json").stdout) == {
        "type": "revoked",
        "jti": "t-1",
        "closed": 0,
    }
    rows = [json.loads(line) for line in run("revoke", "--json").stdout.splitlines()]
    assert [(row.get("jti"), row.get("subject"), row.get("until")) for row in rows] == [
        ("t-1", None, "2999-01-01T00:00:00.000Z"),
        (None, "agent-007", None),
    ]
    assert "agent-007" in run("revoke").stdout
    assert run("revoke", "--lift", "--jti", "t-1").stdout == "lifted the revocation of jti t-1\n"
    run("revoke", "--lift", "--subject", "agent-007")
    assert "No such revocation" in run("revoke", "--lift", "--subject", "agent-007", status=1).stderr
    assert "is your own" in run("revoke", "--subject", "admin", status=1).stderr
    for wrong in (["--lift"], ["--until", "2999-01-01"], ["--jti", "a", "--subject", "b"]):
        assert "exactly one of --subject, --jti and --issued-before" in run("revoke", *wrong, status=2).stderr


def test_curl_prints_lines_that_work_in_a_shell_and_sends_nothing(program: Program, server: NexusServer) -> None:
    line = run("history", "history.curl", "--curl").stdout
    assert server.token not in line
    positions = publish("history.curl", 2)
    done = program.shell(line)
    assert [each["position"] for each in json.loads(done.stdout)["events"]] == positions
    line = run("broadcast", "text=it's", "--curl").stdout
    assert json.loads(program.shell(line).stdout) == {"recipients": 0}
    assert json.loads(program.shell(run("status", "--curl").stdout).stdout) == {"status": "ready"}
    told = json.loads(run("status", "--curl", "--json").stdout)
    assert told == {"type": "request", "line": run("status", "--curl").stdout.strip()}


def test_an_address_where_nobody_listens_is_told_with_a_hint() -> None:
    port = free_port()
    told = run("status", "--url", f"http://127.0.0.1:{port}", status=1).stderr
    assert f"cannot reach http://127.0.0.1:{port}: connection refused" in told
    assert "hint: " in told
    assert "its name is not known" in run("status", "--url", "http://nexus.invalid", status=1).stderr


class Other:
    """A server that is not Nexus: answers each connection with the same bytes."""

    def __init__(self, answer: bytes, tls: ssl.SSLContext | None = None) -> None:
        self._answer, self._tls = answer, tls
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection = self._socket.accept()[0]
            except OSError:
                return
            try:
                with connection if self._tls is None else self._tls.wrap_socket(connection, server_side=True) as wire:
                    wire.recv(65_536)
                    wire.sendall(self._answer)
            except OSError:
                continue

    def stop(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)


@pytest.fixture
def others() -> Iterator[list[Other]]:
    found: list[Other] = []
    yield found
    for each in found:
        each.stop()


PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (PAGE, "is not from Nexus"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "is not Nexus"),
        (b"SSH-2.0-x\r\n", "the answer is no HTTP"),
        (b"", "closed the connection"),
    ],
)
def test_what_is_not_nexus_is_told(others: list[Other], answer: bytes, says: str) -> None:
    others.append(Other(answer))
    assert says in run("status", "--url", f"127.0.0.1:{others[0].port}", status=1).stderr


def test_a_redirection_is_not_followed_with_the_token(others: list[Other]) -> None:
    others.append(Other(b"HTTP/1.1 301 Moved\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n"))
    told = run("history", "a", "--url", f"127.0.0.1:{others[0].port}", status=1).stderr
    assert "301: go to https://elsewhere.example/" in told


def test_a_certificate_that_is_not_trusted_is_told_with_the_remedies(others: list[Other], tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*issue().write(tmp_path, "server"))
    ca = authority().write(tmp_path, "ca")[0]
    others.append(Other(PAGE, context))
    url = f"https://localhost:{others[0].port}"
    told = run("status", "--url", url, status=1).stderr
    assert "its certificate is not trusted" in told
    assert "--cacert" in told
    for trust in (("--cacert", ca), ("--insecure",)):
        assert "is not from Nexus" in run("status", "--url", url, *trust, status=1).stderr
