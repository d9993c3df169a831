"""RFC 6455 and RFC 7692, judged by the Autobahn fuzzing suite, through every way into a real server.

The server is `twistd nexus --echo`: its `/echo` differs from every other address only in the session that is handed to the
connection. Reports stay in `artifacts/conformance`; docs/conformance.md says what they mean.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_twisted

from tests.certificates import issue
from tests.conformance import expected
from tests.conformance.report import table
from tests.conformance.runner import ARTIFACTS, Run
from tests.e2e.nginx import Nginx
from tests.e2e.server import NexusServer, free_port

FULL: Final = os.environ.get("NEXUS_TEST_CONFORMANCE") == "full"
TOOLS: Final = ("autobahntestsuite", "autobahn", "twisted")
TOKEN: Final = "conformance-token"
# Every compressed message is to be answered compressed, however short; no limit or time-out is changed.
COMPRESSED: Final = {"NEXUS_COMPRESSION__ENABLED": "true", "NEXUS_COMPRESSION__MIN_SIZE": "1"}


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest) -> Iterator[list[Run]]:
    """The runs so far, of which a summary is left beside their reports. Cases run twice are told in any case."""
    made: list[Run] = []
    yield made
    tools = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in TOOLS)]
    lines = [f"{run.name}: {len(run.report.verdicts)} cases, {run.report.seconds:.0f} s in cases" for run in made]
    again = [f"{run.name}: run a second time: {', '.join(run.retried)}" for run in made if run.retried]
    counts = table({run.name: run.report.verdicts for run in made})
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    (ARTIFACTS / "summary.md").write_text("\n\n".join([", ".join(tools), counts, *lines, *again]) + "\n")
    terminal: Any = request.config.pluginmanager.get_plugin("terminalreporter")
    for line in again:
        terminal.write_line(f"conformance, {line}")


@pytest.fixture
def start(tmp_path: Path) -> Any:
    """Starts servers with `/echo` that do not outlive the test."""
    made: list[NexusServer] = []

    async def start_one(*args: str, **env: str) -> NexusServer:
        made.append(NexusServer(tmp_path, "--echo", *args, token=TOKEN, env={**COMPRESSED, **env}))
        await made[-1].start()
        return made[-1]

    yield start_one
    for server in made:
        server.discard()


@pytest_twisted.ensureDeferred
async def test_every_case_ends_as_it_should_over_the_receive_lane(start: Any, runs: list[Run]) -> None:
    server = await start()
    cases = expected.ALL if FULL else expected.quick()
    runs.append(Run("lane", f"ws://127.0.0.1:{server.port}/echo?token={TOKEN}", cases))
    assert await runs[-1].wrong() == {}


@pytest_twisted.ensureDeferred
async def test_the_verdicts_are_the_same_when_autobahn_parses_every_frame(start: Any, runs: list[Run]) -> None:
    server = await start(NEXUS_RECEIVE_LANE="false")
    runs.append(Run("parser", f"ws://127.0.0.1:{server.port}/echo?token={TOKEN}", expected.basic()))
    assert await runs[-1].wrong() == {}


@pytest_twisted.ensureDeferred
async def test_the_verdicts_are_the_same_over_tls(start: Any, runs: list[Run], tmp_path: Path) -> None:
    certificate, key = issue().write(tmp_path, "server")
    port = free_port()
    tls = ("--listen", f"tls:{port}:interface=127.0.0.1")
    await start(*tls, NEXUS_TLS__CERTIFICATE=certificate, NEXUS_TLS__KEY=key)
    runs.append(Run("tls", f"wss://127.0.0.1:{port}/echo?token={TOKEN}", expected.basic()))
    assert await runs[-1].wrong() == {}


@pytest_twisted.ensureDeferred
async def test_the_verdicts_are_the_same_through_nginx(start: Any, runs: list[Run], tmp_path: Path) -> None:
    server = await start()
    nginx = Nginx(tmp_path, [server.port, server.port])
    try:
        await nginx.start()
        runs.append(Run("nginx", f"wss://127.0.0.1:{nginx.port}/echo?token={TOKEN}", expected.basic()))
        assert await runs[-1].wrong() == {}
    finally:
        nginx.discard()
