"""An admission that admits every client."""

from __future__ import annotations

from random import Random
from typing import Any

from nexus_tw.auth import Authenticators
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import Http, Limits
from nexus_tw.transport.admission import Admission
from nexus_tw.transport.connections import Connections


def admission(time: Any) -> Admission:
    """Return an admission without limits."""
    connections = Connections(time, Limits(), 10, Random(1))
    return Admission({}, Authenticators([]), connections, Http(), Metrics(), time, Limits())
