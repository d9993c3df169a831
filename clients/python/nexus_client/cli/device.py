"""A simulated agent: what it measures, where it is, and what goes wrong with it.

It does no I/O and reads no clock: it is told the time. Name, seed and time alone make its life; how often it is looked at, and
what it is commanded, changes none of its faults.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Final

from nexus_client.cli.motion import Motion

TICK: Final = 0.5  # s of its life that pass at once
HOT: Final = 85.0  # degrees Celsius at which an alarm is raised
COOL: Final = 70.0  # and cleared
OVERHEATS: Final = 90.0  # mean seconds between faults of the fan
LEAVES: Final = 150.0  # mean seconds between losses of its network
AMBIENT: Final = 24.0


@dataclass(frozen=True, slots=True)
class Moment:
    """What an agent has to say: its metrics, and events since the last time as (type, data).

    `away`: for how many seconds from now it has no network; if it has, `stays` is for how long.
    """

    metrics: dict[str, Any]
    events: tuple[tuple[str, dict[str, Any]], ...]
    away: float
    stays: float


class Faults:
    """The faults of one kind: each begins at a time and lasts for a while, whatever else happens."""

    def __init__(self, chance: random.Random, between: float, shortest: float, longest: float) -> None:
        self._chance = chance
        self._between = between  # mean seconds from the end of one to the begin of the next
        self._lasts = shortest, longest
        self._begin = self._end = 0.0
        self._draw()

    def at(self, time: float) -> float:
        """Return for how many seconds there is a fault now; minus those until the next one if there is none.

        The time does not go back.
        """
        while time >= self._end:
            self._draw()
        return self._end - time if time >= self._begin else time - self._begin

    def _draw(self) -> None:
        self._begin = self._end + self._chance.expovariate(1 / self._between)
        self._end = self._begin + self._chance.uniform(*self._lasts)


class Device:
    """One simulated agent, born at time 0."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.version = "1.0.0"
        self._seed = seed
        self._chance = self._dice("life")
        self._fan = Faults(self._dice("fan"), OVERHEATS, 10.0, 25.0)
        self._network = Faults(self._dice("network"), LEAVES, 3.0, 10.0)
        self._restarting = self._dice("restarts")
        self._motion = Motion(self._dice("motion"))
        self._load = self._chance.uniform(0.1, 0.6)
        self._temperature = AMBIENT + 40 * self._load
        self._battery = self._chance.uniform(0.5, 1.0)
        self._charging = False
        self._restarts = False
        self._ticks = 0
        self._booted = 0.0
        self._events: list[tuple[str, dict[str, Any]]] = []
        self.alarm = False

    def until(self, time: float) -> Moment:
        """Live until so many seconds after its birth, and return what there is to say then."""
        while (self._ticks + 1) * TICK <= time:
            self._ticks += 1
            self._tick(self._ticks * TICK)
        away = self._network.at(time)
        if self._restarts:
            self._restarts = False
            away = max(away, self._restarting.uniform(1.0, 2.0))
            self._booted = time + away
        events, self._events = tuple(self._events), []
        return Moment(self._metrics(time), events, max(0.0, away), max(0.0, -away))

    def restart(self) -> None:
        """Restart: it leaves when it is looked at next."""
        self._restarts = True

    def _dice(self, what: str) -> random.Random:
        """Return chance for one thing alone, so that nothing else changes what falls."""
        return random.Random(f"{self._seed}/{self.name}/{what}")  # noqa: S311  it grants nothing

    def _tick(self, time: float) -> None:
        self._load = min(1.0, max(0.03, self._load + self._chance.gauss(0.0, 0.06)))
        goal = AMBIENT + 40 * self._load + (60 if self._fan.at(time) > 0 else 0)
        self._temperature += (goal - self._temperature) * TICK / 6
        self._battery += TICK / (60 if self._charging else -240)
        if not 0.15 < self._battery < 1.0:
            self._charging = self._battery <= 0.15
            self._battery = min(1.0, max(0.15, self._battery))
        self._motion.go(TICK)
        if self._temperature >= HOT if not self.alarm else self._temperature <= COOL:
            self.alarm = not self.alarm
            about = {"agentId": self.name, "alarm": "temperature", "value": round(self._temperature, 1)}
            self._events.append(("alarm.raised" if self.alarm else "alarm.cleared", about))

    def _metrics(self, time: float) -> dict[str, Any]:
        return {
            "cpu": round(100 * self._load, 1),
            "temperature": round(self._temperature, 1),
            "battery": {"level": round(self._battery, 3), "charging": self._charging},
            "position": self._motion.position(),
            "uptime": max(0, round(time - self._booted)),
            "state": "overheating" if self.alarm else "busy" if self._load > 0.5 else "idle",
        }
