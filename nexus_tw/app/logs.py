"""The log: one line for each event, as text for people or as JSON, without secrets; `nexus_tw.app.sink` writes the lines.

No part should log a secret in the first place. A secret that slips through all the same (a URL in a library's traceback) is
redacted here, as the last step. An event with a true `one_off` is exempt: the token printed at
start.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from constantly import NamedConstant
from twisted.application.service import MultiService
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from twisted.python.components import Componentized
from zope.interface import implementer

from nexus_tw.app.sink import File, Sink, Stream, Syslog, Target
from nexus_tw.model import settings
from nexus_tw.model.errors import ConfigError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.times import format_millis

STDOUT: Final = 1

LONGEST: Final = 32768  # characters of one event's text; a traceback with a message in it can be any size

LEVELS: Final = {"debug": LogLevel.debug, "info": LogLevel.info, "warn": LogLevel.warn, "error": LogLevel.error}

_PRIORITIES: Final = {LogLevel.debug: 7, LogLevel.info: 6, LogLevel.warn: 4, LogLevel.error: 3, LogLevel.critical: 2}

# Messages of the libraries about each port, each factory and themselves at level info; Nexus logs its addresses itself.
_CHATTER: Final = re.compile(
    r"^(Starting factory|Stopping factory|\(\S+ Port \S+ Closed\)|.{0,200} starting on "
    r"|twistd \S+ \(.*\) starting up|reactor class: |Main loop terminated|Server Shut Down)"
)

_STRUCK: Final = "***"
_SECRETS: Final = (
    re.compile(r"(?i)(\bbearer\s+)[\w.~+/=-]{8,}"),
    re.compile(r"(?i)(authorization[\"']?\s*[:=,]\s*b?[\"']?\w+\s+)[^\s\"']+"),
    re.compile(r"(nexus\.bearer\.)[^\s,;\"']+"),
    re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s/@:\"']*:)[^\s/\"']+(?=@)"),
    # As a parameter of a URL, a member of a JSON object, a keyword argument or a variable of the environment.
    re.compile(r"(?i)((?:token|password|passwd|secret)[\"']?\s*[=:]\s*b?[\"']?)(?![\s\"'])[^\s&\"',;)}]+"),
)
# Characters that move the cursor, begin a line or change the direction of text could fake log entries.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def redact(text: str) -> str:
    """Return the text with everything that looks like a token or a password redacted."""
    for secret in _SECRETS:
        text = secret.sub(rf"\1{_STRUCK}", text)
    return text


def as_text(event: LogEvent) -> str:
    """Return `TIMESTAMP LEVEL NAMESPACE MESSAGE`; further lines of a message and tracebacks are indented."""
    message = "\n".join(filter(None, (_message(event), _traceback(event))))
    message = _CONTROL.sub(lambda found: repr(found[0])[1:-1], message).replace("\n", "\n    ")
    return f"{_when(event)} {_level(event)} {event.get('log_namespace', '-')} {message}\n"


def as_json(event: LogEvent) -> str:
    """Return an object in one line: `timestamp`, `level`, `namespace`, `message`, and `traceback` if there is one."""
    line = {
        "timestamp": _when(event),
        "level": _level(event),
        "namespace": event.get("log_namespace", "-"),
        "message": _message(event),
    }
    traceback = _traceback(event)
    if traceback:
        line["traceback"] = traceback
    return json.dumps(line) + "\n"


def event_of(line: bytes) -> LogEvent:
    """Return the event of a line written by `as_json`."""
    said = json.loads(line)
    event: LogEvent = {
        "log_time": datetime.fromisoformat(said["timestamp"]).timestamp(),
        "log_level": LogLevel.levelWithName(said["level"]),
        "log_namespace": said["namespace"],
        "log_format": "{message}",
        "message": said["message"],
    }
    if "traceback" in said:
        event["log_traceback"] = said["traceback"]
    return event


Form = Callable[[LogEvent], str]

FORMATS: Final[dict[str, Form]] = {"text": as_text, "json": as_json}


@implementer(ILogObserver)
class LineObserver:
    """Writes events from a level on, in the given form; failures of `write` are ignored: the log must not stop the server."""

    def __init__(self, form: Form, lowest: NamedConstant, write: Callable[[bytes], object]) -> None:
        self.form = form
        self.lowest = lowest
        self._write = write

    def __call__(self, event: LogEvent) -> None:
        if _severity(event) < self.lowest:
            return
        with suppress(OSError, ValueError):
            self._write(self.form(event).encode("utf-8", "backslashreplace"))


def observer(log: settings.Log, write: Callable[[bytes], object]) -> LineObserver:
    """Return the observer for `[log]`: its format and its level."""
    return LineObserver(FORMATS[log.format], LEVELS[log.level], write)


class Log:
    """The log of this process: an observer, and the target of its lines."""

    def __init__(
        self, log: settings.Log, target: Target, busy: Callable[[], bool], metrics: Metrics, form: Form | None = None
    ) -> None:
        """`busy` and `metrics` as for `Sink`; `form` replaces the format of `log`."""
        self._fixed = form
        self.sink = Sink(target, self._notice, busy, metrics)
        self.observer = observer(log, self.sink.write)
        self._prioritized = isinstance(target, Syslog)
        self.take(log)

    def take(self, log: settings.Log) -> None:
        """Use this format and level from now on."""
        form = self._fixed or FORMATS[log.format]
        self.observer.form = _with_priority(form) if self._prioritized else form
        self.observer.lowest = LEVELS[log.level]

    def _notice(self, dropped: int) -> bytes:
        event = {
            "log_time": time.time(),
            "log_level": LogLevel.warn,
            "log_namespace": __name__,
            "log_format": "{dropped} lines of the log were dropped: what reads it does not keep up",
            "dropped": dropped,
        }
        return self.observer.form(event).encode()


class LoggedService(MultiService):
    """A service at the top of an application, which sets the application's log observer.

    twistd starts its log after a service is given its parent and before the service is started, with
    the observer that it finds on the application. Earlier events are kept and replayed to that observer. (`--logger`
    still wins; `twist` has its own log and ignores this.)
    """

    def __init__(self, log_observer: ILogObserver | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._log_observer = log_observer

    def setServiceParent(self, parent: Any) -> None:
        if isinstance(parent, Componentized) and self._log_observer is not None:
            parent.setComponent(ILogObserver, self._log_observer)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]


def for_twistd(log: settings.Log, twistd: Mapping[str, Any], busy: Callable[[], bool], metrics: Metrics) -> Log | None:
    """Return the log for twistd's own options: twistd's target, our form. None for its `--logger`, and without twistd.

    Raise `ConfigError` if its file cannot be opened.
    """
    if twistd.get("logger") or "nodaemon" not in twistd:
        return None
    name = twistd.get("logfile")
    if twistd.get("syslog"):
        return Log(log, Syslog(twistd.get("prefix") or "twistd"), busy, metrics)
    if name == "-" or (twistd["nodaemon"] and not name):
        return Log(log, Stream(STDOUT), busy, metrics)
    name = name or "twistd.log"
    try:
        return Log(log, File(name), busy, metrics)
    except OSError as error:
        raise ConfigError(f"--logfile: cannot open {name}: {error.strerror}") from None


def _with_priority(form: Form) -> Form:
    """Return the form with a preceding priority, as syslog(3) expects it."""
    return lambda event: f"<{_PRIORITIES[_severity(event)]}>{form(event)}"


def _severity(event: LogEvent) -> Any:
    level = event.get("log_level", LogLevel.info)
    if level is LogLevel.info and _CHATTER.match(event.get("log_text") or event.get("log_format") or ""):
        return LogLevel.debug
    return level


def _level(event: LogEvent) -> str:
    return str(_severity(event).name)


def _when(event: LogEvent) -> str:
    return format_millis(int(event.get("log_time", 0.0) * 1000))


def _message(event: LogEvent) -> str:
    text = formatEvent(event)
    return _shorten(text if event.get("one_off") else redact(text))


def _traceback(event: LogEvent) -> str:
    failure = event.get("log_failure")
    return str(event.get("log_traceback", "")) if failure is None else _shorten(redact(failure.getTraceback().rstrip("\n")))


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"
