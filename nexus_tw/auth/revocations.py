"""The revocations in force on this node, and the credentials that they refuse."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.interfaces import IReactorTime

from nexus_tw.model.errors import NexusError
from nexus_tw.model.policy import Principal
from nexus_tw.model.revocations import MOST, Revocation
from nexus_tw.runtime.walltime import wall


class Revocations:
    """At most `MOST`, by their keys."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._known: dict[str, Revocation] = {}

    def __len__(self) -> int:
        return len(self._known)

    def refuses(self, principal: Principal) -> bool:
        """Return whether the credentials of this principal are revoked."""
        known = self._known
        if not known:
            return False
        issued = principal.issued
        for key in (f"subject:{principal.subject}", f"jti:{principal.token_id}", "issuedBefore:"):
            found = known.get(key)
            if found is None or found.over(int(wall(self._clock) * 1000)):
                continue
            if found.kind == "subject":
                if issued is None or issued * 1000 < found.at:
                    return True
            elif found.kind == "jti" or (issued is not None and issued * 1000 < found.at):
                return True
        return False

    def check(self, revocation: Revocation) -> None:
        """Raise `limit_exceeded` if there is no room for it."""
        if len(self._known) >= MOST and revocation.key not in self._known:
            raise NexusError("limit_exceeded", f"More than {MOST} revocations: lift some, or give new ones an end")

    def add(self, revocation: Revocation) -> None:
        """Put it in force, in place of one with the same key unless that reaches further."""
        known = self._known.get(revocation.key)
        if known is None or revocation.at >= known.at:
            self._known[revocation.key] = revocation

    def lift(self, key: str) -> bool:
        """Lift the one with this key. Return whether there was one."""
        return self._known.pop(key, None) is not None

    def replace(self, revocations: Iterable[Revocation]) -> None:
        """Put these in force, and no others."""
        self._known = {}
        for revocation in revocations:
            self.add(revocation)

    def sweep(self) -> list[str]:
        """Drop those that have ended. Return their keys."""
        now = int(wall(self._clock) * 1000)
        ended = [key for key, revocation in self._known.items() if revocation.over(now)]
        for key in ended:
            del self._known[key]
        return ended

    def known(self) -> list[Revocation]:
        """Return those in force, in the order of their keys."""
        now = int(wall(self._clock) * 1000)
        return [revocation for _, revocation in sorted(self._known.items()) if not revocation.over(now)]
