"""Finds the master by asking the sentinels."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList

from nexus_tw.bus.redis.address import Address
from nexus_tw.bus.redis.connection import Connection, Unreachable
from nexus_tw.bus.redis.connector import Door, Place

PATIENCE: Final = 1.0  # s for a sentinel to answer; the others are asked at the same time


class Sentinels:
    """All sentinels of an address.

    A sentinel that was cut off names a former master, so the answer of the majority counts, not that of one.
    """

    def __init__(self, door: Door, address: Address) -> None:
        self._door = door
        self._address = address

    async def master(self) -> Place:
        """Return the place of the current master; raise `Unreachable` if no sentinel names one."""
        hosts = self._address.hosts
        answers: Counter[Place] = Counter()
        agreed: Deferred[None] = Deferred()
        failures: list[str] = []

        def decide() -> None:
            if not agreed.called:
                agreed.callback(None)

        def answer(place: Place) -> None:
            answers[place] += 1
            if answers[place] * 2 > len(hosts):
                decide()

        asked = [Deferred.fromCoroutine(self._ask(host)) for host in hosts]
        for one in asked:
            one.addCallbacks(answer, lambda failure: failures.append(failure.getErrorMessage()))
        DeferredList(asked).addCallback(lambda _: decide())
        try:
            await agreed
        finally:
            for one in asked:
                one.cancel()
        if not answers:
            raise Unreachable(f"no sentinel knows the master: {failures[0]}")
        return answers.most_common(1)[0][0]

    async def _ask(self, sentinel: Place) -> Place:
        connection = Connection(lambda _why: None)
        found = await self._door.talk(sentinel, connection, self._question, PATIENCE)
        connection.fail("done")
        return found

    async def _question(self, connection: Connection) -> Place:
        words = ("SENTINEL", "get-master-addr-by-name", self._address.master or "")
        try:
            found: Any = await connection.ask(*words)
        except Unreachable as error:
            # Most sentinels require no login, and refuse AUTH if no password is set.
            login = self._login()
            if not login or not str(error).startswith(("NOAUTH", "NOPERM")):
                raise
            await connection.ask("AUTH", *login)
            found = await connection.ask(*words)
        if not found:
            raise Unreachable("a sentinel does not know this name")
        host, port = (item.decode() if isinstance(item, bytes) else str(item) for item in found)
        return host, int(port)

    def _login(self) -> list[str]:
        """Return the sentinels' own user and password, or the master's password if the address names no other."""
        address = self._address
        if address.sentinel_password is None:
            return [] if address.password is None else [address.password]
        return [*([address.sentinel_username] if address.sentinel_username else []), address.sentinel_password]
