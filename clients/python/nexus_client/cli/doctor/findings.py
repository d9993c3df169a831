"""What the doctor finds: one line for each check, under the heading of its section."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, Literal

from nexus_client.cli.output import Output

Status = Literal["ok", "warning", "failed", "skipped"]

PAGE: Final = "docs/doctor.md"
# Every check, in the order in which they are told, by section. The page has a heading for each.
SECTIONS: Final = {
    "Network": ("dns", "tcp"),
    "TLS": ("tls", "tls-alpn", "tls-dates", "tls-name", "tls-trust"),
    "Server": ("http", "date", "ready", "bus", "store"),
    "WebSocket": ("upgrade", "subprotocol", "origin", "close-code", "token"),
    "Session": ("clock", "heartbeat", "latency", "large-message"),
    "Proxies": ("buffering", "idle", "lively", "idle-stream"),
}
CHECKS: Final = {check: section for section, checks in SECTIONS.items() for check in checks}
_STYLES: Final[dict[Status, str]] = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}


class Stop(Exception):
    """Nothing further can be checked; the text says why."""


class Report:
    """Tells each finding at once, and counts them."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._section = ""
        self._told: set[str] = set()
        self.counts: Counter[Status] = Counter()

    def ok(self, check: str, message: str, **figures: Any) -> None:
        self._tell(check, "ok", message, "", figures)

    def warning(self, check: str, message: str, hint: str, **figures: Any) -> None:
        self._tell(check, "warning", message, hint, figures)

    def failed(self, check: str, message: str, hint: str, **figures: Any) -> None:
        self._tell(check, "failed", message, hint, figures)

    def skipped(self, check: str, why: str) -> None:
        self._tell(check, "skipped", why, "", {})

    def leave_out(self, checks: Iterable[str]) -> None:
        """These make no sense here; nothing is said of them."""
        self._told.update(checks)

    def end(self, why: str) -> None:
        """Tell that whatever has not been told is skipped."""
        for check in CHECKS:
            if check not in self._told:
                self.skipped(check, why)

    def summary(self) -> None:
        """Tell how many findings there are of each kind."""
        counts = {status: self.counts[status] for status in _STYLES}
        if self._output.json:
            self._output.record({"type": "summary"} | {str(status): count for status, count in counts.items()})
            return
        pieces = [("\n", "")]
        for status, count in counts.items():
            word = "warnings" if status == "warning" and count != 1 else status
            pieces += [(f"{count} {word}", _STYLES[status] if count else "dim"), (", ", "")]
        self._output.record({}, *pieces[:-1])

    def _tell(self, check: str, status: Status, message: str, hint: str, figures: dict[str, Any]) -> None:
        section = CHECKS[check]
        self._told.add(check)
        self.counts[status] += 1
        see = f"{PAGE}#{check}"
        if self._output.json:
            record = {"type": "check", "section": section, "check": check, "status": status, "message": message}
            self._output.record(record | ({"hint": hint, "see": see} if hint else {}) | figures)
            return
        if section != self._section:
            self._output.record({}, (f"{chr(10) if self._section else ''}{section}", "bold"))
            self._section = section
        self._output.record({}, (f"  {status:<8} ", _STYLES[status]), (f"{check:<14} ", "dim"), (message, ""))
        if hint:
            self._output.record({}, (f"{'':26}{hint}", "italic"))
            self._output.record({}, (f"{'':26}see {see}", "dim"))
