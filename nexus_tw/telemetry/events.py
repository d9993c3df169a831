"""The event that announces a stored sample."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from nexus_tw.interfaces.plugins import Sample
from nexus_tw.model.times import format_millis

RECEIVED: Final = "telemetry.received"


def received(sample: Sample, sent: bytes) -> bytes:
    """Return the JSON of the event; `sent` holds the metrics as they were sent."""
    return b'{"agentId":%b,"metrics":%b,"timestamp":"%b"}' % (_quoted(sample.agent_id), sent, _iso(sample.timestamp))


@lru_cache(maxsize=16384)
def _quoted(text: str) -> bytes:
    return msgspec.json.encode(text)


@lru_cache(maxsize=1024)
def _iso(millis: int) -> bytes:
    return format_millis(millis).encode()
