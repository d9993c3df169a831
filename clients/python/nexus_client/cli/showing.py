"""Events and gaps as lines."""

from __future__ import annotations

from typing import Any

from nexus_client.cli.output import Output
from nexus_client.cli.words import compact, now


def event(output: Output, kind: str, data: Any, position: str | None, timestamp: str | None = None) -> None:
    """Write one event; its time is that of the server where it tells one, else now."""
    record: dict[str, Any] = {"type": "event", "eventType": kind, "data": data}
    record |= {name: value for name, value in (("position", position), ("timestamp", timestamp)) if value is not None}
    time = timestamp.partition("T")[2] if timestamp else now()
    output.record(record, (time, "dim"), ("  ", ""), (kind, "cyan"), (f"  {compact(data)}", ""))


def gap(output: Output, kind: str | None, reason: str, position: str | None) -> None:
    """Write, in its place among the events, that some are missing."""
    record = {"type": "gap", "eventType": kind, "reason": reason, "position": position}
    line = f"--- events may be missing here{f' of {kind}' if kind else ''}: {reason}"
    output.record({name: value for name, value in record.items() if value is not None}, (line, "bold yellow"))
