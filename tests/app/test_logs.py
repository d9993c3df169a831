"""The log: its two forms, its levels, and that no secret and no broken pipe gets through it."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.application.service import Application
from twisted.internet.protocol import Factory
from twisted.logger import ILogObserver, Logger, LogLevel, LogPublisher
from twisted.python import log as legacy
from twisted.python.components import Componentized
from zope.interface.verify import verifyObject

from nexus_tw.app import logs
from nexus_tw.model import settings
from nexus_tw.model.metrics import Metrics

SECRET = "s3cr3t-T0ken.value_x"


class Book:
    """Collects what an observer writes, and logs to it."""

    def __init__(self, **section: Any) -> None:
        self.written: list[bytes] = []
        self.log = Logger("tests.book", observer=logs.observer(settings.Log(**section), self.written.append))

    @property
    def text(self) -> str:
        return b"".join(self.written).decode()


def test_text_is_one_line_with_time_level_namespace_and_message() -> None:
    event = {"log_time": 1.25, "log_level": LogLevel.warn, "log_namespace": "a.b", "log_format": "{n} on", "n": 3}
    assert logs.as_text(event) == "1970-01-01T00:00:01.250Z warn a.b 3 on\n"


def test_json_is_one_object_in_one_line() -> None:
    book = Book(format="json")
    book.log.error("two\nlines {who}", who="é")
    assert book.text.count("\n") == 1
    line = json.loads(book.text)
    assert (line["level"], line["namespace"], line["message"]) == ("error", "tests.book", "two\nlines é")
    assert "traceback" not in line


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_failure_brings_its_traceback(form: str) -> None:
    book = Book(format=form)
    try:
        raise ValueError("odd")
    except ValueError:
        book.log.failure("while counting")
    assert "while counting" in book.text
    assert "ValueError: odd" in book.text
    assert "test_logs.py" in book.text


@pytest.mark.parametrize(("level", "seen"), [("debug", "diwe"), ("info", "iwe"), ("warn", "we"), ("error", "e")])
def test_nothing_below_the_level_is_written(level: str, seen: str) -> None:
    book = Book(level=level)
    for method, letter in (("debug", "d"), ("info", "i"), ("warn", "w"), ("error", "e")):
        getattr(book.log, method)("[{letter}]", letter=letter)
    assert [line.split("[")[1][0] for line in book.text.splitlines()] == list(seen)


def test_a_critical_event_passes_every_level() -> None:
    book = Book(level="error")
    book.log.critical("on fire")
    assert " critical " in book.text


def test_what_libraries_say_about_ports_and_factories_is_debug() -> None:
    for section, expected in ((settings.Log(), 0), (settings.Log(level="debug"), 3)):
        written: list[bytes] = []
        publisher = LogPublisher(logs.observer(section, written.append))
        log = Logger("twisted.internet", observer=publisher)
        log.info("Starting factory {factory!r}", factory=Factory())
        log.info("(TCP Port 3000 Closed)")
        legacy_publisher = legacy.LogPublisher(observerPublisher=publisher, publishPublisher=publisher)
        legacy_publisher.msg("Door starting on 3000")
        assert len(written) == expected
        assert all(b" debug " in line for line in written)


def test_nobody_can_forge_a_line_or_move_the_cursor() -> None:
    book = Book()
    book.log.info("hello {name}", name="x\n2026-01-01T00:00:00.000Z error nexus all is lost\r\x1b[2J\u2028\x85end")
    lines = book.text.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("    ")
    assert "\x1b" not in book.text
    assert "\\x1b[2J\\u2028\\x85end" in lines[1]


@pytest.mark.parametrize(
    "text",
    [
        f"GET /api/v1/events?token={SECRET}&events=a HTTP/1.1",
        f"Authorization: Bearer {SECRET}",
        f"'authorization', 'Bearer {SECRET}'",
        f"authorization: Basic {SECRET}",
        f"Sec-WebSocket-Protocol: nexus.v1.json, nexus.bearer.{SECRET}",
        f"redis://:{SECRET}@host:6379/0 refused",
        f"postgresql://nexus:{SECRET}@db/nexus",
        f'{{"token": "{SECRET}"}}',
        f"login(user='x', password='{SECRET}')",
        f"NEXUS_TOKEN={SECRET}",
        f"client_secret={SECRET}",
        f"{{b'token': b'{SECRET}'}}",
    ],
)
def test_secrets_are_struck_out_of_messages_and_tracebacks(text: str) -> None:
    for form in ("text", "json"):
        book = Book(format=form)
        book.log.info("{text}", text=text)
        try:
            raise RuntimeError(text)
        except RuntimeError:
            book.log.failure("failed")
        assert SECRET not in book.text
        assert SECRET[:8] not in book.text
        assert book.text.count("***") >= 2


@pytest.mark.parametrize(
    "text",
    ["a token is needed", "GET /events?events=token.made HTTP/1.1", "http://localhost:3000/ is up", "a bearer of news"],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert logs.redact(text) == text


@given(st.text())
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once = logs.redact(f"{text} token={SECRET}")
    assert SECRET not in once
    assert logs.redact(once) == once


def test_the_one_off_token_at_start_is_shown() -> None:
    book = Book()
    book.log.info("http://localhost:3000/?token={token}", token=SECRET, one_off=True)
    assert SECRET in book.text


def test_a_message_of_any_size_makes_a_line_of_bounded_size() -> None:
    book = Book()
    book.log.info("{text}", text="x" * 10_000_000)
    assert len(book.text) < logs.LONGEST + 200


def test_an_event_that_cannot_be_formatted_is_still_a_line() -> None:
    book = Book()
    book.log.info("{absent.member}")
    assert book.text.count("\n") == 1


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left"), ValueError("closed file")])
def test_a_log_that_cannot_be_written_stops_nothing_and_goes_on_when_it_can(error: Exception) -> None:
    broken = [True]
    written: list[bytes] = []

    def write(data: bytes) -> None:
        if broken[0]:
            raise error
        written.append(data)

    observer = logs.observer(settings.Log(), write)
    log = Logger("tests", observer=observer)
    log.info("lost")
    broken[0] = False
    log.info("kept")
    assert len(written) == 1


def test_twistd_finds_the_observer_on_the_application_of_a_logged_service() -> None:
    observer = logs.observer(settings.Log(), len)
    verifyObject(ILogObserver, observer)
    application = Application("nexus")
    assert isinstance(application, Componentized)
    logs.LoggedService(observer).setServiceParent(application)
    assert application.getComponent(ILogObserver) is observer


def test_without_an_observer_twistd_keeps_its_own() -> None:
    application = Application("nexus")
    logs.LoggedService(None).setServiceParent(application)
    assert application.getComponent(ILogObserver, None) is None


@pytest.mark.parametrize(
    "options",
    [
        {"nodaemon": True, "logger": "a.b"},
        {},
    ],
)
def test_an_explicit_choice_of_another_log_is_left_alone(options: dict[str, Any]) -> None:
    assert logs.for_twistd(settings.Log(), options, lambda: False, Metrics()) is None


PROGRAM = textwrap.dedent("""
    import sys
    from pathlib import Path
    from twisted.logger import Logger, globalLogBeginner
    from nexus_tw.app import logs
    from nexus_tw.model import settings
    from nexus_tw.model.metrics import Metrics

    options = {"nodaemon": True, "logfile": sys.argv[2]}
    log = logs.for_twistd(settings.Log(format="json"), options, lambda: False, Metrics())
    globalLogBeginner.beginLoggingTo([log.observer])
    Logger("tests").info("first")
    sys.stdin.read()
    for _ in range(100):
        Logger("tests").info("x" * 1000)
        print("to nobody")
    Path(sys.argv[1]).write_text("done")
""")


def test_a_log_file_of_twistd_is_written_in_our_form(tmp_path: Path) -> None:
    path = tmp_path / "nexus.log"
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "done"), str(path)],
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=60,
    )
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 201
    assert lines[0]["message"] == "first"


def test_a_broken_pipe_neither_stops_the_process_nor_spoils_its_exit_status(tmp_path: Path) -> None:
    done = tmp_path / "done"
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(done), "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    try:
        assert b"first" in child.stdout.readline()
        child.stdout.close()
        child.stdin.close()
        assert child.wait(30) == 0
        assert child.stderr.read() == b""
        assert done.read_text() == "done"
    finally:
        child.kill()
        child.stderr.close()
