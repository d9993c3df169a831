"""Where a simulated agent is: it drives about, turning now and then, and stays near its home."""

from __future__ import annotations

import math
import random
from typing import Final

CENTRE: Final = (52.52, 13.405)  # latitude and longitude, degrees; homes are around it
SPREAD: Final = 8_000.0  # m from there to a home at most
ROUND: Final = 2_500.0  # m from its home at which an agent turns back
FASTEST: Final = 14.0  # m/s
_DEGREE: Final = 111_320.0  # m of one degree of latitude


class Motion:
    """A drive without end. Distances are in metres east and north of `CENTRE`."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        bearing, away = chance.uniform(0, math.tau), SPREAD * math.sqrt(chance.random())
        self._home = away * math.sin(bearing), away * math.cos(bearing)
        self._east, self._north = self._home
        self._heading = chance.uniform(0, math.tau)  # clockwise from north
        self._speed = chance.uniform(0, FASTEST)

    def go(self, seconds: float) -> None:
        """Drive on for a moment: speed and direction change little by little."""
        chance = self._chance
        self._speed = min(FASTEST, max(0.0, self._speed + chance.gauss(0.0, 1.0) * seconds))
        self._heading += chance.gauss(0.0, 0.15) * seconds
        east, north = self._home[0] - self._east, self._home[1] - self._north
        if math.hypot(east, north) > ROUND:
            turn = math.remainder(math.atan2(east, north) - self._heading, math.tau)
            self._heading += turn * min(1.0, seconds / 3)
        self._east += self._speed * seconds * math.sin(self._heading)
        self._north += self._speed * seconds * math.cos(self._heading)

    def position(self) -> dict[str, float]:
        """Return latitude and longitude in degrees, to about a metre, and the speed in m/s."""
        latitude = CENTRE[0] + self._north / _DEGREE
        longitude = CENTRE[1] + self._east / (_DEGREE * math.cos(math.radians(CENTRE[0])))
        return {"lat": round(latitude, 5), "lon": round(longitude, 5), "speed": round(self._speed, 1)}
