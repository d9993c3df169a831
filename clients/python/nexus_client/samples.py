"""Samples of telemetry as the application gives them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from nexus_client.core.matching import check_name
from nexus_client.core.options import Sample


def make_sample(id: str, agent: str | None, metrics: Mapping[str, Any], at: datetime | None) -> Sample:
    """Return a sample of this agent, measured at that time (None: now; without a zone: UTC).

    Metrics are finite numbers, booleans, strings, and objects of these. Raise `ValueError`, naming the member, for others.
    """
    if agent is None:
        raise ValueError("agent: give the client or the sample an agent")
    check_name(agent, "agent")
    _check(metrics, "metrics")
    time = datetime.now(UTC) if at is None else (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    timestamp = time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Sample(id, agent, timestamp, msgspec.json.encode(metrics))


def _check(metrics: Mapping[str, Any], member: str) -> None:
    if not metrics:
        raise ValueError(f"{member}: must not be empty")
    for name, value in metrics.items():
        if not name:
            raise ValueError(f"{member}: a name must not be empty")
        if type(value) is float and math.isfinite(value):
            continue  # most are, and asking for a Mapping takes longer
        if isinstance(value, Mapping):
            _check(value, f"{member}.{name}")
        elif not isinstance(value, bool | int | float | str):
            raise ValueError(
                f"{member}.{name}: expected a number, a boolean, a string or an object, not {type(value).__name__}"
            )
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{member}.{name}: must be finite")
        elif type(value) is int and not -(2**63) <= value < 2**63:
            raise ValueError(f"{member}.{name}: must fit 64 bits")
