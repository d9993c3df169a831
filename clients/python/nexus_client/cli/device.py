"""A simulated agent: what it measures, and what goes wrong with it.

It does no I/O and knows no clock: the same name and seed, stepped alike, live the same life.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Final

HOT: Final = 85.0  # degrees Celsius at which an alarm is raised
COOL: Final = 70.0  # and cleared
OVERHEATS: Final = 90.0  # mean seconds between faults of the fan
LEAVES: Final = 150.0  # mean seconds between losses of its network
AMBIENT: Final = 24.0


@dataclass(frozen=True, slots=True)
class Moment:
    """What an agent has to say after a step: its metrics, events as (type, data), and for how many seconds it is away then."""

    metrics: dict[str, Any]
    events: tuple[tuple[str, dict[str, Any]], ...] = ()
    away: float = 0.0


class Device:
    """One simulated agent."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.version = "1.0.0"
        self._random = random.Random(f"{seed}/{name}")  # noqa: S311  it grants nothing
        self._load = self._random.uniform(0.1, 0.6)
        self._temperature = AMBIENT + 40 * self._load
        self._battery = self._random.uniform(0.5, 1.0)
        self._charging = False
        self._fan_fails = 0.0  # for so many seconds more
        self._alarm = False
        self._restarts = False
        self._uptime = 0.0

    def step(self, seconds: float) -> Moment:
        """Let time pass; return what there is to say of it."""
        chance = self._random
        self._uptime += seconds
        self._load = min(1.0, max(0.03, self._load + chance.gauss(0.0, 0.06)))
        if self._fan_fails > 0:
            self._fan_fails -= seconds
        elif chance.random() < seconds / OVERHEATS:
            self._fan_fails = chance.uniform(10.0, 25.0)
        goal = AMBIENT + 40 * self._load + (60 if self._fan_fails > 0 else 0)
        self._temperature += (goal - self._temperature) * min(1.0, seconds / 6)
        self._battery += seconds / (60 if self._charging else -240)
        if not 0.15 < self._battery < 1.0:
            self._charging = self._battery <= 0.15
            self._battery = min(1.0, max(0.15, self._battery))
        return Moment(self._metrics(), self._alarms(), self._absence(seconds))

    def restart(self) -> None:
        """Restart: it leaves after the next step."""
        self._restarts = True

    def _metrics(self) -> dict[str, Any]:
        return {
            "cpu": round(100 * self._load, 1),
            "temperature": round(self._temperature, 1),
            "battery": {"level": round(self._battery, 3), "charging": self._charging},
            "uptime": round(self._uptime),
            "state": "overheating" if self._alarm else "busy" if self._load > 0.5 else "idle",
        }

    def _alarms(self) -> tuple[tuple[str, dict[str, Any]], ...]:
        about = {"agentId": self.name, "alarm": "temperature", "value": round(self._temperature, 1)}
        if not self._alarm and self._temperature >= HOT:
            self._alarm = True
            return (("alarm.raised", about),)
        if self._alarm and self._temperature <= COOL:
            self._alarm = False
            return (("alarm.cleared", about),)
        return ()

    def _absence(self, seconds: float) -> float:
        if self._restarts:
            self._restarts, self._uptime = False, 0.0
            return self._random.uniform(1.0, 2.0)
        if self._random.random() < seconds / LEAVES:
            return self._random.uniform(3.0, 10.0)
        return 0.0
