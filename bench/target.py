"""The server that a scenario runs against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.dialects import JSON, Dialect
from bench.link import Address


@dataclass(frozen=True)
class Target:
    """`stored` gives for each agent how many samples are kept and how many different numbers they have; None where the
    server keeps nothing. `dialect` is what is spoken with it."""

    address: Address
    pids: tuple[int, ...]
    stored: Callable[[], Mapping[str, tuple[int, int]]] | None = None
    dialect: Dialect = JSON


@dataclass(frozen=True)
class Time:
    """How long a run takes, s."""

    seconds: float  # measured
    warmup: float
    settle: float = 0.1  # how long it listens for what must not come any more
    patience: float = 30.0  # without anything at all coming: then something is lost
