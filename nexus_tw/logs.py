"""The log: one line for each event on standard output, as text for people or as JSON, without secrets.

Nobody should log a secret in the first place. What slips through all the same (a URL in a library's traceback) is
struck out here, where nothing comes after. A message whose event has a true `one_off` is spared: the token printed at
start.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from constantly import NamedConstant
from twisted.application.service import MultiService
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from twisted.python.components import Componentized
from twisted.python.logfile import LogFile
from zope.interface import implementer

from nexus_tw import settings
from nexus_tw.times import format_millis

STDOUT: Final = 1

LONGEST: Final = 32768  # characters of one event's text; a traceback with a message in it can be any size

LEVELS: Final = {"debug": LogLevel.debug, "info": LogLevel.info, "warn": LogLevel.warn, "error": LogLevel.error}

# What the libraries say about each port and factory at level info; Nexus tells its addresses itself.
_CHATTER: Final = re.compile(r"^(Starting factory|Stopping factory|\(\S+ Port \S+ Closed\)|.{0,200} starting on )")

_STRUCK: Final = "***"
_SECRETS: Final = (
    re.compile(r"(?i)(\bbearer\s+)[\w.~+/=-]{8,}"),
    re.compile(r"(?i)(authorization[\"']?\s*[:=,]\s*b?[\"']?\w+\s+)[^\s\"']+"),
    re.compile(r"(nexus\.bearer\.)[^\s,;\"']+"),
    re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s/@:\"']*:)[^\s/\"']+(?=@)"),
    # As a parameter of a URL, a member of a JSON object, a keyword argument or a variable of the environment.
    re.compile(r"(?i)((?:token|password|passwd|secret)[\"']?\s*[=:]\s*b?[\"']?)(?![\s\"'])[^\s&\"',;)}]+"),
)
# Anything that moves the cursor, begins a line or turns the direction could make a log say what did not happen.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def redact(text: str) -> str:
    """The text with whatever looks like a token or a password struck out."""
    for secret in _SECRETS:
        text = secret.sub(rf"\1{_STRUCK}", text)
    return text


def as_text(event: LogEvent) -> str:
    """`TIMESTAMP LEVEL NAMESPACE MESSAGE`; further lines of a message and tracebacks are indented."""
    message = "\n".join(filter(None, (_message(event), _traceback(event))))
    message = _CONTROL.sub(lambda found: repr(found[0])[1:-1], message).replace("\n", "\n    ")
    return f"{_when(event)} {_level(event)} {event.get('log_namespace', '-')} {message}\n"


def as_json(event: LogEvent) -> str:
    """An object in one line: `timestamp`, `level`, `namespace`, `message`, and `traceback` where there is one."""
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


FORMATS: Final[dict[str, Callable[[LogEvent], str]]] = {"text": as_text, "json": as_json}


@implementer(ILogObserver)
class LineObserver:
    """Writes events from level `lowest` on, in the given form; `write` may fail: no log is worth a stop."""

    def __init__(
        self, form: Callable[[LogEvent], str], lowest: NamedConstant, write: Callable[[bytes], object]
    ) -> None:
        self._form = form
        self._lowest = lowest
        self._write = write

    def __call__(self, event: LogEvent) -> None:
        if _severity(event) < self._lowest:
            return
        # A reader that has gone, a full disk, a closed file; the next line tries again.
        with suppress(OSError, ValueError):
            self._write(self._form(event).encode("utf-8", "backslashreplace"))


def observer(log: settings.Log, write: Callable[[bytes], object]) -> LineObserver:
    """What `[log]` asks for: its format, and nothing below its level."""
    return LineObserver(FORMATS[log.format], LEVELS[log.level], write)


class LoggedService(MultiService):
    """A service at the top of an application, which brings the application's log observer with it.

    twistd begins its log between the moment when a service is given its parent and the moment when it is started, with
    the observer it finds on the application. The events from before are kept and replayed to that observer. (`--logger`
    still wins; `twist` has its own log and does not ask.)
    """

    def __init__(self, log_observer: ILogObserver | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._log_observer = log_observer

    def setServiceParent(self, parent: Any) -> None:
        if isinstance(parent, Componentized) and self._log_observer is not None:
            parent.setComponent(ILogObserver, self._log_observer)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]


def for_twistd(log: settings.Log, twistd: Mapping[str, Any]) -> ILogObserver | None:
    """The observer for twistd's own options: where it would write, in our form.

    None where the options ask for something else (`--logger`, `--syslog`), or are not twistd's.
    """
    if twistd.get("logger") or twistd.get("syslog") or "nodaemon" not in twistd:
        return None
    name = twistd.get("logfile")
    if name and name != "-":
        return observer(log, _file(name))
    if twistd["nodaemon"] or name == "-":
        return observer(log, standard_output())
    return observer(log, _file("twistd.log"))


def standard_output() -> Callable[[bytes], object]:
    """Writes to what is standard output now, unbuffered: nothing is left for the end of the process to fail on.

    twistd puts something else in the place of `sys.stdout`, whence the copy.
    """
    try:
        descriptor = os.dup(STDOUT)
    except OSError:
        return len  # closed before we began: whoever did that does not want to hear from us

    def write(data: bytes) -> None:
        while data:
            data = data[os.write(descriptor, data) :]

    return write


def _file(name: str) -> Callable[[bytes], object]:
    """At most eleven files of 10 MB."""
    write: Callable[[bytes], object] = LogFile.fromFullPath(name, rotateLength=10_000_000, maxRotatedFiles=10).write
    return write


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
    return "" if failure is None else _shorten(redact(failure.getTraceback().rstrip("\n")))


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"
