from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from nexus_tw.commands import handlers
from nexus_tw.commands.handlers import HELD, HandlerExecutor
from nexus_tw.commands.invocations import PendingInvocation
from nexus_tw.commands.threads import Threads
from nexus_tw.interfaces.peers import Caller
from nexus_tw.interfaces.plugins import Handler, Invoked
from nexus_tw.model.budgets import Budget
from nexus_tw.model.errors import ConfigError, NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.payloads import Options, Payload
from nexus_tw.model.settings import ConfiguredCommand, Limits
from tests.recording import RecordingHalf, principal


class Run:
    """A handler that was started, and what the caller's half heard of it."""

    retried = False

    def __init__(self, handler: Handler, parameters: Any = None, named: str = "c", held: Budget | None = None) -> None:
        self.progressed_with: list[Any] = []
        self.outcomes: list[Any] = []
        self.seen: list[Invoked] = []

        def execute(call: Invoked) -> Any:
            self.seen.append(call)
            return handler(call)

        self.executor = HandlerExecutor(execute, held or Budget("handler_bytes", HELD, Limits(), Metrics()))
        who, payload = principal("caller"), Payload.of_value(msgspec.json.encode(parameters))
        by = Caller(1, who.subject, who.role)
        self.invocation = PendingInvocation(self, self.executor, "deploy", payload, by, 5.0, command_id=named)
        self.executor.start(self.invocation, who)

    def progressed(self, payload: Payload, _options: Options) -> None:
        self.progressed_with.append(payload.value)

    def completed(self, payload: Payload, _options: Options) -> None:
        self.outcomes.append(payload.value)

    def failed(self, error: NexusError) -> None:
        self.outcomes.append(error)

    def lost(self) -> None:
        self.outcomes.append("lost")

    def overran(self, alone: bool) -> None:
        self.outcomes.append(("overran", alone))

    def returned(self, _payload: Payload, busy: bool) -> None:
        self.outcomes.append(("returned", busy))

    @property
    def error(self) -> NexusError:
        (error,) = self.outcomes
        assert isinstance(error, NexusError)
        return error


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    events: list[LogEvent] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_namespace") == "nexus_tw.commands.handlers":
            events.append(event)

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)


# --- loading


def load(commands: Sequence[ConfiguredCommand]) -> dict[str, Handler]:
    return handlers.load(commands, Threads(None, Limits(threads=1, thread_queue=0), Metrics()))


def echo(call: Invoked) -> Any:
    return call.parameters


NOT_A_FUNCTION = 5


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Installs a distribution of that name with these entry points of `nexus.commands`."""

    def install(name: str, entries: str) -> None:
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[nexus.commands]\n{entries}\n")

    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "explodes_when_imported.py").write_text("raise RuntimeError('no such luck')\n")
    yield install
    sys.modules.pop("explodes_when_imported", None)


def test_a_configured_handler_is_found_by_its_name() -> None:
    assert load([ConfiguredCommand("deploy", "tests.commands.test_handlers:echo")]) == {"deploy": echo}


def test_an_installed_package_brings_handlers_and_the_configuration_goes_first(
    package: Callable[[str, str], None],
) -> None:
    package("fleet", "deploy = tests.commands.test_handlers:nothing_there\nrestart = tests.commands.test_handlers:echo")
    found = load([ConfiguredCommand("deploy", "tests.commands.test_handlers:echo")])
    assert found == {"deploy": echo, "restart": echo}


@pytest.mark.parametrize(
    ("name", "handler", "text"),
    [
        ("deploy", "tests.commands.test_handlers", r"commands\[0\].handler: .* is not of the form package.module:function"),
        ("deploy", "tests.commands.test_handlers:", r"commands\[0\].handler: .* is not of the form"),
        ("deploy", "no.such.module:function", r"commands\[0\].handler: .* cannot be imported: ModuleNotFoundError"),
        ("deploy", "tests.commands.test_handlers:nothing", r"commands\[0\].handler: .* cannot be imported: AttributeError"),
        ("deploy", "not a module:x", r"commands\[0\].handler: .* cannot be imported: ValueError"),
        ("deploy", "tests.commands.test_handlers:NOT_A_FUNCTION", r"commands\[0\].handler: .* cannot be called"),
        ("de ploy", "tests.commands.test_handlers:echo", r"commands\[0\].name: 'de ploy' cannot name a command"),
        ("nexus.deploy", "tests.commands.test_handlers:echo", r"commands\[0\].name: .* is reserved"),
    ],
)
def test_what_cannot_be_used_is_named_with_the_reason(name: str, handler: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        load([ConfiguredCommand(name, handler)])


def test_a_command_has_one_handler() -> None:
    with pytest.raises(ConfigError, match=r"commands\[1\].name: 'deploy' is there already"):
        load([ConfiguredCommand("deploy", "tests.commands.test_handlers:echo")] * 2)


def test_two_packages_for_one_command_are_refused(package: Callable[[str, str], None]) -> None:
    package("fleet", "deploy = tests.commands.test_handlers:echo")
    package("float", "deploy = tests.commands.test_handlers:echo")
    with pytest.raises(ConfigError, match=r"entry point 'deploy' of nexus.commands: 'deploy' is there already"):
        load([])


def test_a_module_that_fails_while_it_is_imported_is_a_configuration_error(package: Callable[[str, str], None]) -> None:
    with pytest.raises(ConfigError, match=r"commands\[0\].handler: .* RuntimeError: no such luck"):
        load([ConfiguredCommand("deploy", "explodes_when_imported:function")])
    package("fleet", "deploy = explodes_when_imported:function")
    with pytest.raises(ConfigError, match=r"entry point 'deploy' of nexus.commands: .* RuntimeError: no such luck"):
        load([])


# --- running


def test_a_plain_function_gives_its_result_at_once() -> None:
    assert Run(echo, {"a": [1, None]}).outcomes == [{"a": [1, None]}]


def test_a_handler_sees_the_command() -> None:
    def handler(call: Invoked) -> Any:
        return [call.command_id, call.command, call.parameters, call.caller.subject, call.attempt]

    assert Run(handler, 5).outcomes == [["c", "deploy", 5, "caller", 1]]


def test_a_deferred_and_a_coroutine_are_waited_for() -> None:
    results: list[Deferred[int]] = []

    def deferred(call: Invoked) -> Deferred[int]:
        results.append(Deferred())
        return results[-1]

    async def coroutine(call: Invoked) -> int:
        return await deferred(call)

    runs = [Run(deferred), Run(coroutine)]
    assert [run.outcomes for run in runs] == [[], []]
    for result in results:
        result.callback(5)
    assert [run.outcomes for run in runs] == [[5], [5]]


def test_an_exception_is_told_by_its_text_and_logged_with_its_traceback(logged: list[LogEvent]) -> None:
    def handler(call: Invoked) -> None:
        raise KeyError("nothing of that name")

    run = Run(handler)
    assert (run.error.code, run.error.message) == ("failed", "'nothing of that name'")
    (event,) = logged
    assert event["command"] == "deploy" and event["log_failure"].check(KeyError)


def test_an_exception_without_a_text_is_told_by_its_class(logged: list[LogEvent]) -> None:
    async def handler(call: Invoked) -> None:
        raise ZeroDivisionError

    assert Run(handler).error.message == "ZeroDivisionError"


def test_a_handler_chooses_code_and_text_of_its_failure_and_that_is_no_matter_for_the_log(
    logged: list[LogEvent],
) -> None:
    def handler(call: Invoked) -> None:
        raise NexusError("not_found", "no such release")

    run = Run(handler)
    assert (run.error.code, run.error.message) == ("not_found", "no such release")
    assert logged == []


def test_a_code_that_is_not_in_the_table_becomes_failed(logged: list[LogEvent]) -> None:
    def handler(call: Invoked) -> None:
        raise NexusError("made_up", "no such code")

    assert (Run(handler).error.code, Run(handler).error.message) == ("failed", "no such code")


@pytest.mark.parametrize("result", [object(), "\ud800", {(1, 2): 3}, {1: object()}], ids=["object", "half", "key", "value"])
def test_a_result_that_is_no_json_is_a_failure(result: Any, logged: list[LogEvent]) -> None:
    assert Run(lambda _: result).error.code == "failed"
    assert len(logged) == 1


def test_progress_is_passed_on_until_nobody_waits() -> None:
    calls: list[Invoked] = []

    def handler(call: Invoked) -> Deferred[None]:
        calls.append(call)
        call.progress({"percent": 0})
        return Deferred(lambda _: None)

    run = Run(handler)
    calls[0].progress({"percent": 50})
    with pytest.raises(TypeError):
        calls[0].progress(object())
    run.invocation.stop("cancelled")
    calls[0].progress({"percent": 100})
    assert run.progressed_with == [{"percent": 0}, {"percent": 50}]


def test_stopping_tells_the_handler_why_and_cancels_its_deferred(logged: list[LogEvent]) -> None:
    reasons: list[str] = []
    deferred: Deferred[None] = Deferred()
    seen: list[type[BaseException]] = []

    async def handler(call: Invoked) -> None:
        call.on_cancel(reasons.append)
        try:
            await deferred
        except CancelledError:
            seen.append(CancelledError)
            call.on_cancel(reasons.append)  # it is known by now
            raise

    run = Run(handler)
    assert not run.seen[0].cancelled
    run.invocation.stop("timeout")
    assert [run.seen[0].cancelled] == [True]
    assert reasons == ["timeout", "timeout"]
    assert seen == [CancelledError]
    assert logged == [], "that it was cancelled is no failure"


def test_what_goes_wrong_in_being_cancelled_is_logged_and_stops_nothing(logged: list[LogEvent]) -> None:
    reasons: list[str] = []

    def refuse(_: object) -> None:
        raise RuntimeError("not now")

    def handler(call: Invoked) -> Deferred[None]:
        call.on_cancel(refuse)
        call.on_cancel(reasons.append)
        return Deferred(refuse)

    Run(handler).invocation.stop("cancelled")
    assert reasons == ["cancelled"]
    assert len(logged) == 2


def test_a_handler_stopped_by_its_own_progress_is_cancelled_as_soon_as_it_waits() -> None:
    cancelled: list[object] = []

    class Stopping(Run):
        def progressed(self, payload: Payload, options: Options) -> None:
            super().progressed(payload, options)
            self.invocation.stop("cancelled")

    def handler(call: Invoked) -> Deferred[None]:
        call.progress(1)
        return Deferred(cancelled.append)

    run = Stopping(handler)
    assert run.progressed_with == [1] and len(cancelled) == 1
    assert run.outcomes == [] and not run.executor._runs


def test_the_arguments_of_a_plain_call_count_until_its_handler_has_ended_also_if_nobody_waits_for_it() -> None:
    held = Budget("handler_bytes", 100, Limits(share=1), Metrics())
    last: Deferred[None] = Deferred()

    async def handler(_call: Invoked) -> None:
        with suppress(CancelledError):
            await Deferred()
        await last

    run = Run(handler, "x" * 58, "", held)
    assert held.taken == 60
    with pytest.raises(NexusError, match="handler_bytes"):
        Run(handler, "x" * 58, "", held)
    Run(handler, "x" * 58, "c", held)
    assert held.taken == 60, "those of a command are counted in the book"
    run.invocation.stop("timeout")
    assert held.taken == 60, "it has not returned"
    last.callback(None)
    assert held.taken == 0 and run.outcomes == []


def test_an_encrypted_payload_is_refused_before_the_handler_is_called() -> None:
    executor = HandlerExecutor(echo, Budget("handler_bytes", HELD, Limits(), Metrics()))
    who, half = principal("caller"), RecordingHalf()
    by, options = Caller(1, who.subject, who.role), {"ppt_scheme": "x_mine"}
    invocation = PendingInvocation(half, executor, "deploy", Payload.of_value(b"1"), by, 5.0, options=options)
    with pytest.raises(NexusError, match="cannot open an encrypted payload"):
        executor.start(invocation, who)
    assert half.heard == [] and not executor._runs
