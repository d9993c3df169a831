"""The server under test, as scenarios see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.dialects import JSON, Dialect
from bench.link import Address


@dataclass(frozen=True)
class Target:
    """`stored` returns for each agent the number of stored samples and of different numbers in them; None if the server stores
    nothing. `dialect` is the protocol to use."""

    address: Address
    pids: tuple[int, ...]
    stored: Callable[[], Mapping[str, tuple[int, int]]] | None = None
    dialect: Dialect = JSON


@dataclass(frozen=True)
class Time:
    """The durations of a run in seconds."""

    seconds: float  # measured
    warmup: float
    settle: float = 0.1  # time to listen for messages that must not arrive any more
    patience: float = 30.0  # time without any message after which something is lost
