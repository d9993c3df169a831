"""Questions of the meta API to all nodes of the realm, and their answers put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from twisted.logger import Logger

from nexus_tw.interfaces.fleet import Fleet
from nexus_tw.interfaces.realm import CallReply
from nexus_tw.model.errors import NexusError

PART: Final = "meta_api"

_encode: Final = msgspec.msgpack.Encoder().encode
_answer: Final = msgspec.msgpack.Decoder().decode


class Question(msgspec.Struct, array_like=True, gc=False):
    """The name of a question, and its arguments."""

    name: str
    args: list[Any]


_question: Final = msgspec.msgpack.Decoder(Question).decode


def _never(_answers: list[Any]) -> bool:
    return False


class Everywhere:
    """Implements `nexus_tw.interfaces.fleet.Part`. Each node answers from what it has itself."""

    _log = Logger()

    def __init__(self, fleet: Fleet, answers: Mapping[str, Callable[..., Any]]) -> None:
        """`answers` by name; they take the arguments of the question and return plain values."""
        self._fleet = fleet
        self._answers = answers
        fleet.take_part(PART, self, self.asked)

    def ask(
        self,
        reply: CallReply,
        name: str,
        *args: Any,
        then: Callable[[list[Any]], None],
        enough: Callable[[list[Any]], bool] = _never,
    ) -> None:
        """Call `then` with the answers of all nodes, that of this one first; at once if there is no other.

        If a node does not answer in time, the reply is `bus_unavailable`, unless what the others have answered is `enough`. The
        question reaches that node all the same, once it reads its mail. The reply is also the `NexusError` that `then` raises.
        """
        own = self._answers[name](*args)
        others = list(self._fleet.members)
        if not others:
            then([own])
            return

        def answered(answers: Mapping[str, bytes]) -> None:
            try:
                found = [own, *map(_answer, answers.values())]
                # One that has left since has nothing any more.
                silent = [node for node in others if node in self._fleet.members and node not in answers]
                if silent:
                    self._log.warn("{nodes} did not answer the meta API ({name})", nodes=", ".join(silent), name=name)
                    if not enough(found):
                        raise NexusError("bus_unavailable", "Not every node has answered")
                then(found)
            except NexusError as error:
                reply.error(error)

        self._fleet.ask(others, PART, _encode(Question(name, list(args))), answered)

    # --- Part

    def received(self, node: str, body: bytes) -> None:
        """Do nothing: it is only asked."""

    def asked(self, _node: str, body: bytes, answer: Callable[[bytes], None]) -> None:
        question = _question(body)
        answer(_encode(self._answers[question.name](*question.args)))

    def joined(self, node: str) -> None:
        """Do nothing: other nodes know nothing of this one."""

    def left(self, node: str, heir: bool) -> None:
        """Do nothing: this node knows nothing of others."""

    def fenced(self) -> None:
        """Do nothing: it only tells what is there."""

    def renewed(self) -> None:
        """Do nothing: nothing is on the bus."""
