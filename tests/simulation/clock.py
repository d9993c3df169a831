"""Time: one for all, in which what is due is done, one thing after the other, and that of a node, which can stand still."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, Final

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

START: Final = 1_800_000_000.0  # s since the epoch


class Time:
    """Each thing that is due is a turn of somebody's reactor."""

    def __init__(self) -> None:
        self.now = START
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def at(self, when: float, act: Callable[[], None]) -> None:
        heappush(self._due, (when, next(self._numbers), act))

    def run(self, until: float) -> None:
        """Do all that is due before that time."""
        due = self._due
        while due and due[0][0] <= until:
            when, _, act = heappop(due)
            self.now = max(self.now, when)
            act()
        self.now = until


@implementer(IReactorTime)
class NodeClock:
    """The clock of one process: what is due waits while the process is stopped, and is never done once it is dead."""

    def __init__(self, time: Time) -> None:
        self._time = time
        self._dead = False
        self._stopped = False
        self._step = 0.0  # s by which somebody has set the time of day
        self._missed: deque[Callable[[], None]] = deque()

    def seconds(self) -> float:
        return self._time.now

    def wall(self) -> float:
        """Return the time of day."""
        return self._time.now + self._step

    def step(self, seconds: float) -> None:
        """Somebody sets the time of day."""
        self._step += seconds

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kw: object) -> DelayedCall:
        call = DelayedCall(self._time.now + delay, callable, args, kw, _cancelled, self._push, self.seconds)
        self._push(call)
        return call

    def getDelayedCalls(self) -> list[DelayedCall]:
        raise NotImplementedError

    def do(self, act: Callable[[], None]) -> None:
        """Something comes from outside: do it now, or once the process goes on."""
        if self._stopped:
            self._missed.append(act)
        elif not self._dead:
            act()

    @property
    def stopped(self) -> bool:
        return self._stopped

    def stop(self) -> None:
        self._stopped = True

    def go_on(self) -> None:
        self._stopped = False
        while self._missed and not self._stopped:
            self.do(self._missed.popleft())

    def die(self) -> None:
        self._dead = True
        self._stopped = False
        self._missed.clear()

    def _push(self, call: DelayedCall) -> None:
        def due() -> None:
            if call.active():
                if call.getTime() > self._time.now:
                    self._push(call)
                else:
                    call.called = 1
                    call.func(*call.args, **call.kw)

        self._time.at(call.getTime(), lambda: self.do(due))


class Pipe:
    """One direction of a connection: what goes in comes out later, in the same order, or never once it is cut."""

    def __init__(self, time: Time, chance: Random, delay: float, out: Callable[[Any], None]) -> None:
        """`delay` is the usual one, in seconds."""
        self._time = time
        self._random = chance.random
        self._delay = delay
        self._out = out
        self._last = 0.0
        self._free = 0.0
        self._cut = False

    def put(self, item: Any) -> None:
        now, chance = self._time.now, self._random()
        delay = self._delay * (0.5 + chance) if chance < 0.9 else self._delay * 200 * (chance - 0.895)
        self._last = max(self._last, now + delay, self._free)
        self._time.at(self._last, lambda: self._come(item))

    def stall(self, seconds: float) -> None:
        """Nothing that is put from now on comes out before."""
        self._free = self._time.now + seconds

    def cut(self) -> None:
        self._cut = True

    def _come(self, item: Any) -> None:
        if not self._cut:
            self._out(item)


def _cancelled(_call: DelayedCall) -> None:
    """It is passed over when its time comes."""
