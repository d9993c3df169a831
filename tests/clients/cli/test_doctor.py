"""`nexus doctor`: each fault of the way to a server is found, named, and told with what to change."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from nexus_client.cli import http
from nexus_client.cli.app import App
from nexus_client.cli.doctor.findings import CHECKS
from nexus_client.cli.doctor.stream import TYPE
from nexus_client.cli.program import nexus
from nexus_client.cli.target import find

from tests.clients.cli.fronts import Faults, Liar
from tests.clients.cli.program import Program, wait_for
from tests.e2e.haproxy import HAProxy
from tests.e2e.nginx import Nginx
from tests.e2e.server import NexusServer, answers, free_port

PAGE = Path(__file__).parents[3] / "docs" / "doctor.md"
Findings = dict[str, dict[str, Any]]
Doctor = Callable[..., Findings]


@pytest.fixture(scope="module")
def faults(server: NexusServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    found = Faults(tmp_path_factory.mktemp("faults"), server.port)
    found.launch()
    wait_for(lambda: all(answers(port) for port in found.ports.values()), f"nginx: {found.output}")
    yield found
    found.discard()


@pytest.fixture
def doctor(server: NexusServer, monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """Run `nexus doctor` with these arguments, in this process. Return its findings by their check."""

    def run(_app: App, main: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(main)  # without handlers of signals, which are the tests' own

    monkeypatch.setattr(App, "run", run)
    monkeypatch.setenv("NEXUS_URL", server.http)
    monkeypatch.setenv("NEXUS_TOKEN", server.token)

    def examine(*arguments: str, status: int = 0) -> Findings:
        result = CliRunner().invoke(nexus, ["doctor", "--json", *arguments])
        assert result.exit_code == status, result.output
        assert server.token not in result.output
        *found, summary = [json.loads(line) for line in result.stdout.splitlines()]
        assert summary.pop("type") == "summary"
        for kind, count in summary.items():
            assert sum(each["status"] == kind for each in found) == count
        for each in found:
            assert ("hint" in each) == (each["status"] in ("warning", "failed")), each
            assert each["section"] == CHECKS[each["check"]]
        assert len({each["check"] for each in found}) == len(found), "a check is told twice"
        return {each["check"]: each for each in found}

    return examine


def kinds(found: Findings) -> dict[str, set[str]]:
    """Return the checks by their status, without those that are ok."""
    kept: dict[str, set[str]] = {}
    for check, each in found.items():
        if each["status"] != "ok":
            kept.setdefault(each["status"], set()).add(check)
    return kept


def test_a_server_without_a_proxy_is_fine(doctor: Doctor) -> None:
    found = doctor("--strict")
    assert kinds(found) == {"skipped": {"tls", "date"}}
    assert set(CHECKS) - set(found) == {"tls-alpn", "tls-dates", "tls-name", "tls-trust", "idle", "lively", "idle-stream"}
    assert (found["token"]["subject"], found["token"]["role"]) == ("admin", "admin")
    assert found["large-message"]["bytes"] == 262_144
    assert (found["heartbeat"]["interval"], found["heartbeat"]["timeout"]) == (30, 60)
    assert 0 < found["latency"]["minimum"] <= found["latency"]["median"] <= found["latency"]["maximum"]


def test_the_shipped_nginx_and_haproxy_are_fine(doctor: Doctor, server: NexusServer, tmp_path: Path) -> None:
    (tmp_path / "nginx").mkdir()
    (tmp_path / "haproxy").mkdir()
    nginx, haproxy = Nginx(tmp_path / "nginx", [server.port] * 2), HAProxy(tmp_path / "haproxy", [server.port] * 2)
    for proxy in (nginx, haproxy):
        proxy.launch()
    try:
        for proxy in (nginx, haproxy):
            wait_for(lambda proxy=proxy: answers(proxy.port), f"{proxy}: {proxy.output}")  # type: ignore[misc]
            found = doctor("--url", proxy.https, "--cacert", str(proxy.authority), "--patient", "1")
            assert kinds(found).keys() <= {"skipped"}, kinds(found)
            assert found["tls"]["version"] == "TLSv1.3"
            assert found["tls-alpn"]["alpn"] == "http/1.1"
            assert found["idle"]["seconds"] == found["lively"]["seconds"] == found["idle-stream"]["seconds"] == 1
            assert found["upgrade"]["status"] == "ok"
    finally:
        for proxy in (nginx, haproxy):
            proxy.discard()


@pytest.mark.parametrize(
    ("fault", "status", "checks", "says", "hint"),
    [
        ("no upgrade", "failed", {"upgrade"}, "answers 426", "proxy_set_header Upgrade $http_upgrade"),
        ("buffering", "failed", {"buffering"}, "held back", "proxy_buffering off"),
        ("compressing", "warning", {"buffering"}, "compressed on the way (gzip)", "gzip_types"),
        ("no authorization", "failed", {"token"}, "Authorization does not arrive", "proxy_set_header Authorization"),
        ("no subprotocol", "failed", {"subprotocol"}, "none is selected", "Sec-WebSocket-Protocol"),
        ("other host", "failed", {"origin"}, "refused with 403", "proxy_set_header Host $http_host"),
        ("password", "failed", {"upgrade"}, "answers 401", "auth_basic off"),
        ("missing", "failed", {"upgrade"}, "answers 404", "location in nginx"),
        ("elsewhere", "failed", {"http"}, "sends clients to https://fleet.example/health/ready", "--url"),
        ("no server", "failed", {"http"}, "answers 502: it does not reach Nexus", "proxy_pass"),
        ("a page", "failed", {"http"}, "not as Nexus does", "location in nginx"),
    ],
)
def test_a_fault_of_a_proxy_is_found_and_nothing_else(
    doctor: Doctor, faults: Faults, fault: str, status: str, checks: set[str], says: str, hint: str
) -> None:
    found = doctor("--url", f"http://127.0.0.1:{faults.ports[fault]}", status=int(status == "failed"))
    assert {kind: names for kind, names in kinds(found).items() if kind != "skipped"} == {status: checks}
    (check,) = checks
    assert says in found[check]["message"]
    assert hint in found[check]["hint"]
    assert found[check]["see"] == f"docs/doctor.md#{check}"


def test_a_buffer_that_events_of_others_fill_is_found_all_the_same(doctor: Doctor, faults: Faults) -> None:
    over = threading.Event()

    def publish() -> None:
        while not over.is_set():
            http.post(find({}), "/api/v1/events", [{"eventType": TYPE, "data": {"agentId": "x" * 1000}}])

    busy = threading.Thread(target=publish)
    busy.start()
    try:
        found = doctor("--url", f"http://127.0.0.1:{faults.ports['buffering']}", status=1)
    finally:
        over.set()
        busy.join()
    assert kinds(found)["failed"] == {"buffering"}


def test_a_proxy_that_cuts_idle_connections_is_found_by_patience(doctor: Doctor, faults: Faults) -> None:
    url = ("--url", f"http://127.0.0.1:{faults.ports['impatient']}")
    assert "failed" not in kinds(doctor(*url))
    found = doctor(*url, "--patient", "4", status=1)
    assert kinds(found)["failed"] == {"idle", "idle-stream"}
    assert found["lively"]["seconds"] == 4
    for check in ("idle", "idle-stream"):
        assert 1 <= found[check]["seconds"] < 4
        assert "was cut after" in found[check]["message"]
        assert "above heartbeat.interval (30 s): proxy_read_timeout" in found[check]["hint"]


@pytest.mark.parametrize(
    ("fault", "host", "checks", "says"),
    [
        ("expired", "localhost", {"tls-dates"}, "the certificate expired on "),
        ("not yet", "localhost", {"tls-dates"}, "valid only from "),
        ("self-signed", "localhost", {"tls-trust", "tls-name"}, "the certificate is for no name at all, not for localhost"),
        ("intermediate", "localhost", {"tls-trust"}, "not trusted: unable to get local issuer certificate"),
        ("tls", "127.0.0.2", {"tls-name"}, "the certificate is for localhost, 127.0.0.1, not for 127.0.0.2"),
    ],
)
def test_a_fault_of_a_certificate_is_found_and_the_token_is_not_sent(
    doctor: Doctor, faults: Faults, fault: str, host: str, checks: set[str], says: str
) -> None:
    url = ("--url", f"https://{host}:{faults.ports[fault]}", "--cacert", faults.trusted)
    found = doctor(*url, status=1)
    assert kinds(found)["failed"] == checks
    assert says in " ".join(found[check]["message"] for check in checks)
    assert kinds(found)["skipped"] == {check for check, section in CHECKS.items() if section not in ("Network", "TLS")} - {
        *("idle", "lively", "idle-stream")
    }
    assert "--insecure" in found["token"]["message"]


def test_who_verifies_nothing_is_warned_of_what_would_fail(doctor: Doctor, faults: Faults) -> None:
    found = doctor("--url", f"https://localhost:{faults.ports['self-signed']}", "--insecure")
    assert kinds(found)["warning"] == {"tls-trust", "tls-name"}
    assert found["token"]["status"] == "ok"
    doctor("--url", f"https://localhost:{faults.ports['self-signed']}", "--insecure", "--strict", status=1)


def test_a_certificate_that_ends_soon_is_a_warning(doctor: Doctor, faults: Faults) -> None:
    url = ("--url", f"https://localhost:{faults.ports['soon']}", "--cacert", faults.trusted)
    found = doctor(*url)
    assert kinds(found)["warning"] == {"tls-dates"}
    assert "in 9 days 23 hours" in found["tls-dates"]["message"]
    assert "certbot renew" in found["tls-dates"]["hint"]
    assert doctor(*url, "--strict", status=1).keys() == found.keys()


def test_tls_where_there_is_none_and_none_where_there_is(doctor: Doctor, faults: Faults) -> None:
    found = doctor("--url", f"https://127.0.0.1:{faults.ports['good']}", status=1)
    assert kinds(found)["failed"] == {"tls"}
    assert f"--url http://127.0.0.1:{faults.ports['good']}" in found["tls"]["hint"]
    found = doctor("--url", f"http://localhost:{faults.ports['tls']}", status=1)
    assert kinds(found)["failed"] == {"http"}
    assert f"--url https://localhost:{faults.ports['tls']}" in found["http"]["hint"]


@pytest.mark.long
def test_tls_to_a_server_that_waits_for_the_end_of_what_it_takes_for_a_request(doctor: Doctor, server: NexusServer) -> None:
    found = doctor("--url", f"https://127.0.0.1:{server.port}", status=1)
    assert kinds(found)["failed"] == {"tls"}
    assert f"--url http://127.0.0.1:{server.port}" in found["tls"]["hint"]


def test_the_token(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    found = doctor("--token", "wrong-token", status=1)
    assert kinds(found)["failed"] == {"token"}
    assert found["token"]["code"] == 1008
    assert "closed with 1008 Unauthorized" in found["token"]["message"]
    assert "--token-file" in found["token"]["hint"]
    assert "wrong-token" not in json.dumps(found)
    monkeypatch.delenv("NEXUS_TOKEN")
    found = doctor()
    assert kinds(found)["warning"] == {"token"}
    assert found["close-code"]["code"] == 1008
    assert found["latency"]["message"] == "there is no session"


def test_a_clock_that_is_wrong_is_found_in_the_proxy_and_in_nexus(doctor: Doctor, faults: Faults) -> None:
    liar = Liar(faults.ports["good"])
    try:
        found = doctor("--url", f"http://127.0.0.1:{liar.port}", status=1)
    finally:
        liar.stop()
    assert kinds(found)["failed"] == {"date", "clock"}
    for check in ("date", "clock"):
        assert found[check]["secondsAhead"] < -4 * 365 * 86_400 + 60
        assert re.search(r"is 14\d\d days( \d+ hours?)? behind this machine's clock", found[check]["message"])
        assert "NTP" in found[check]["hint"]


def test_a_bus_that_is_away_and_a_role_with_few_rights(doctor: Doctor, tmp_path: Path) -> None:
    config = tmp_path / "nexus.toml"
    digest = sha256(b"the-token-of-a-guest").hexdigest()
    config.write_text(f'[roles.guest]\n[[auth.keys]]\nsubject = "guest"\nrole = "guest"\nhash = "sha256:{digest}"\n')
    server = NexusServer(tmp_path, "--config", str(config), env={"NEXUS_BUS": f"redis://127.0.0.1:{free_port()}"})
    server.launch()
    try:
        wait_for(lambda: answers(server.port), "the server")
        found = doctor("--url", server.http, "--token", "the-token-of-a-guest", status=1)
    finally:
        server.discard()
    assert kinds(found)["failed"] == {"ready", "bus"}
    assert "bus.url" in found["bus"]["hint"]
    assert found["token"]["message"] == "accepted: you are guest, with the role guest"
    assert kinds(found)["skipped"] == {"tls", "date", "store", "buffering"}
    assert "may not subscribe to agent.status: 403" in found["buffering"]["message"]


def test_a_page_of_another_origin(doctor: Doctor) -> None:
    found = doctor("--origin", "https://app.example", status=1)
    assert kinds(found)["failed"] == {"origin"}
    assert 'http.origins = ["https://app.example"]' in found["origin"]["hint"]


def test_names_and_ports_where_nobody_is(doctor: Doctor) -> None:
    found = doctor("--url", "http://nexus.invalid", status=1)
    assert kinds(found)["failed"] == {"dns"}
    assert "nexus.invalid: its name is not known (DNS)" in found["dns"]["message"]
    port = free_port()
    found = doctor("--url", f"http://localhost:{port}", status=1)
    assert kinds(found)["failed"] == {"tcp"}
    assert "127.0.0.1 connection refused" in found["tcp"]["message"]
    assert found["dns"]["addresses"]


def test_an_address_of_several_that_does_not_answer_is_a_warning(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    from nexus_client.cli.doctor import network

    connect = network._connect

    async def one_away(address: str, port: int) -> float | Exception:
        return TimeoutError() if address == "192.0.2.1" else await connect(address, port)

    async def names(*_: Any, **__: Any) -> Any:
        return [(0, 0, 0, "", (address, 0)) for address in ("192.0.2.1", "127.0.0.1")]

    monkeypatch.setattr(network, "_connect", one_away)
    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", names)
    from nexus_client.cli.doctor.findings import Report
    from nexus_client.cli.output import Output

    with socket.create_server(("127.0.0.1", 0)) as listening:
        report, port = Report(Output(True)), listening.getsockname()[1]

        async def reach() -> str:
            return await network.reach(report, await network.look_up(report, "fleet.example", port), port)

        assert asyncio.run(reach()) == "127.0.0.1"
    assert dict(report.counts) == {"ok": 1, "warning": 1}


def test_every_check_is_explained_in_the_documentation() -> None:
    assert re.findall(r"^### `(.+)`$", PAGE.read_text(), re.MULTILINE) == list(CHECKS)


def test_people_read_sections_hints_and_a_summary(program: Program) -> None:
    shown = program("doctor", "--origin", "https://app.example", status=1).out
    assert re.search(r"^WebSocket\n  ok       upgrade +101 came back", shown, re.MULTILINE)
    assert re.search(r"^  failed   origin .*\n {26}list it: .*\n {26}see docs/doctor.md#origin$", shown, re.MULTILINE)
    assert shown.rstrip().endswith("15 ok, 0 warnings, 1 failed, 2 skipped")


def test_ctrl_c_ends_it(program: Program) -> None:
    running = program.start("doctor", "--patient", "60", "--json")
    running.until(lambda: "holding connections" in running.err, "the last check")
    running.interrupt()
    assert running.ended() == 130
