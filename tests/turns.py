"""A clock that counts turns of the reactor."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock


class Turns(Clock):
    """Each `next` is a turn of the reactor: calls scheduled without delay run in the next one."""

    def callLater(self, delay: float, callable: Any, *args: object, **kw: object) -> Any:
        return super().callLater(max(delay, 0.001), callable, *args, **kw)

    def next(self) -> None:
        self.advance(0.001)
