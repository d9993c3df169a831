"""Calls of WAMP: many callers, and one callee that returns its arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from bench.asker import askers, keep_asking
from bench.crowd import Crowd, need_descriptors
from bench.dialects import Type
from bench.errors import Inexact
from bench.link import Link, decode
from bench.meter import Measure
from bench.replies import Answers, Counter
from bench.target import Target, Time
from bench.wire import FIN, FIRST, TEXT, masked

PROCEDURE: Final = "bench.echo"


def calls(target: Target, time: Time, connections: int, window: int) -> Measure:
    """Keep `window` calls open on each of `connections`; messages are results.

    The callee is in this tool, so that it is equally fast for every server. It checks that each caller's calls arrive once and
    in order; the results are checked in the same way.
    """
    need_descriptors(connections + 1)
    arguments = [b'{"by":%d,"i":%%d,"cpu":45.2,"memory":62.1,"status":"running"}' % number for number in range(connections)]
    templates = [b'[%d,%%d,{},"%b",[%b]]' % (Type.CALL, PROCEDURE.encode(), each) for each in arguments]
    requests = [(template, _results(each)) for template, each in zip(templates, arguments, strict=True)]
    with Crowd(target, time) as crowd:
        (link,) = crowd.open([[([Type.REGISTER, 1, {}, PROCEDURE], Type.REGISTERED)]])
        return keep_asking(target, time, crowd, askers(crowd, requests), window, [_Callee(link, connections)])


def _results(argument: bytes) -> Callable[[Link], Counter]:
    def verify(number: int, message: Any) -> None:
        match message:
            case [Type.RESULT, request, dict(), [given]] if request == number and given == decode(argument % number):
                return
        raise Inexact(f"expected the result of call {number}, got {message!r:.200}")

    return lambda link: Answers(link, verify)


class _Callee:
    def __init__(self, link: Link, callers: int) -> None:
        self.link = link
        self.heard = 0
        self._registration = link.answer[2]
        self._awaited = [FIRST] * callers

    def hear(self) -> None:
        answers = []
        for payload in self.link.frames(self.link.receive()):
            request, argument = self._invocation(decode(payload))
            answers.append(masked(FIN | TEXT, msgspec.json.encode([Type.YIELD, request, {}, [argument]])))
        self.link.send(b"".join(answers))

    def _invocation(self, message: Any) -> tuple[int, dict[str, Any]]:
        match message:
            case [Type.INVOCATION, int(request), self._registration, dict(), [{"by": int(caller), "i": number} as argument]]:
                if caller < len(self._awaited) and number == self._awaited[caller]:
                    self._awaited[caller] += 1
                    self.heard += 1
                    return request, argument
        raise Inexact(f"the callee got {message!r:.200}, and waits for {self._awaited!r:.200}")
