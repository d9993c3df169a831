"""Invocations between nodes, as a part of the fleet: those that this node drives, and those that it carries out for others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from twisted.logger import Logger

from nexus_tw.commands import mail
from nexus_tw.commands.guests import Guests
from nexus_tw.commands.registry import Registry
from nexus_tw.commands.remotes import Remotes
from nexus_tw.interfaces.fleet import Fleet

_DRIVER: Final = (mail.Progressed, mail.Completed, mail.Failed, mail.Lost, mail.Overran, mail.Returned)


class Relations:
    """Implements `nexus_tw.interfaces.fleet.Part`."""

    _log = Logger()

    def __init__(self, fleet: Fleet, registry: Registry, remotes: Remotes, guests: Guests) -> None:
        self._fleet = fleet
        self._registry = registry
        self._remotes = remotes
        self._guests = guests
        self._node = fleet.node
        self._complained = False

    def received(self, node: str, body: bytes) -> None:
        try:
            message = mail.message(body)
        except mail.Undecodable:
            if not self._complained:
                self._complained = True
                self._log.warn("Mail of {node} about an invocation cannot be decoded; this is said once", node=node)
            return
        if isinstance(message, _DRIVER):
            self._remotes.received(node, message)
        else:
            self._guests.received(node, message)

    def asked(self, _node: str, body: bytes, answer: Callable[[bytes], None]) -> None:
        """Whether the client of a session still answers: the answer comes when that is known."""
        try:
            peer = self._registry.session(mail.session(body))
        except msgspec.DecodeError:
            peer = None
        if peer is None:
            answer(b"")
        else:
            peer.probe(lambda: answer(b""))

    def joined(self, _node: str) -> None:
        """Do nothing: there are no invocations yet between the two."""

    def left(self, node: str, _heir: bool) -> None:
        self._remotes.left(node)
        self._guests.left(node)

    def fenced(self) -> None:
        self._guests.fenced()

    def renewed(self) -> None:
        if self._fleet.node != self._node:
            self._node = self._fleet.node
            self._guests.renamed()
            self._remotes.renamed()
