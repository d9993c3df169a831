"""Claims: the first callee of a pattern on a node claims the pattern for the node, the last one gives it up.

The bus decides between nodes (`nexus_tw.interfaces.plugins.IClaims`); about further callees the node decides alone. While the
bus is away, registrations with the policy `roundrobin`, which are those of the JSON protocol, are taken, and claimed when it is
back; if that is refused, they are ended. Others fail meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from nexus_tw.commands.registry import ROUNDROBIN, Registry, SharedRegistration
from nexus_tw.interfaces.fleet import Fleet
from nexus_tw.interfaces.plugins import IBus
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern

PART: Final = "claims"
AGAIN: Final = 1.0  # s until what the bus did not answer is asked again

Done = Callable[[NexusError | None], None]


class _Claim:
    """What this node wants of one pattern, and what the bus has answered."""

    __slots__ = ("granted", "invoke", "owed", "pattern", "waiting")

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern
        self.invoke = ""
        self.granted = False  # with `invoke`
        self.owed = False  # the bus has to be asked again
        self.waiting = 0  # requests that are being decided


class Request:
    """A connection's request to register patterns, from the question to the time when it is registered, or not."""

    def __init__(self, claims: Claims, patterns: Sequence[Pattern]) -> None:
        self._claims = claims
        self._wanted = [claims.want(pattern) for pattern in dict.fromkeys(patterns)]

    def decide(self, invoke: str, done: Done) -> None:
        """Claim the patterns with this policy; call `done` once, perhaps before this returns."""
        claims = self._claims
        # Until all is answered, even if the request is settled before.
        asked = [claims.want(claim.pattern) for claim in self._wanted]
        left = len(asked) + 1
        refused: NexusError | None = None

        def answered(error: NexusError | None) -> None:
            nonlocal left, refused
            left -= 1
            refused = refused or error
            if not left:
                try:
                    done(refused)
                finally:
                    for claim in asked:
                        claims.unwant(claim)

        for claim in asked:
            claims.ask(claim, invoke, answered)
        answered(None)

    def settle(self) -> None:
        """End the request. What has no callee of this node then is given up. A second call does nothing."""
        wanted, self._wanted = self._wanted, []
        for claim in wanted:
            self._claims.unwant(claim)


class Claims:
    """The claims of this node; part of the fleet."""

    def __init__(
        self,
        bus: IBus,
        fleet: Fleet,
        clock: IReactorTime,
        registry: Registry,
        metrics: Metrics,
    ) -> None:
        self._bus = bus
        self._fleet = fleet
        self._clock = clock
        self._registry = registry
        self._metrics = metrics
        self._held: dict[str, _Claim] = {}  # by the pattern's text
        # Nodes whose claims this one has to give up, with what is to be called once it has.
        self._gone: dict[str, Callable[[], None]] = {}
        self._timer: IDelayedCall | None = None
        self._revoke: Callable[[SharedRegistration, NexusError], None] = _nobody

    def connect(self, revoke: Callable[[SharedRegistration, NexusError], None]) -> None:
        """Have `revoke` end the registrations of this node's connections that turn out to be refused."""
        self._revoke = revoke

    def __len__(self) -> int:
        return len(self._held)

    def request(self, patterns: Sequence[Pattern]) -> Request:
        """Return the means to claim these patterns."""
        return Request(self, patterns)

    def dropped(self, registration: SharedRegistration) -> None:
        """A connection of this node has left the registration."""
        claim = self._held.get(registration.pattern.text)
        if claim is not None:
            self._check(claim)

    # ---

    def want(self, pattern: Pattern) -> _Claim:
        """Return the claim to a pattern, which counts one more request."""
        claim = self._claim(pattern)
        claim.waiting += 1
        return claim

    def unwant(self, claim: _Claim) -> None:
        """End a request for the claim."""
        claim.waiting -= 1
        self._check(claim)

    def ask(self, claim: _Claim, invoke: str, done: Done) -> None:
        """Claim the pattern by this policy, unless this node has it."""
        claims = self._bus.claims
        if claims is None or (claim.granted and claim.invoke == invoke):
            done(None)
        else:
            claims.claim(claim.pattern, invoke, self._fleet.node, partial(self._taken, claim, invoke, done))

    # ---

    def _claim(self, pattern: Pattern) -> _Claim:
        claim = self._held.get(pattern.text)
        if claim is None:
            claim = self._held[pattern.text] = _Claim(pattern)
            self._metrics.claims += 1
        return claim

    def _taken(self, claim: _Claim, invoke: str, done: Done, error: NexusError | None) -> None:
        if error is None:
            claim.granted, claim.invoke = True, invoke
        elif error.code == "bus_unavailable":
            self._owe(claim)
            if invoke == ROUNDROBIN and (not claim.granted or claim.invoke == invoke):
                claim.invoke = invoke
                error = None
        else:
            self._metrics.registrations_refused += 1
        done(error)

    def _here(self, claim: _Claim) -> SharedRegistration | None:
        """Return the registration if connections of this node are among its callees."""
        registration = self._registry.registration(claim.pattern)
        return registration if registration is not None and registration.here else None

    def _check(self, claim: _Claim) -> None:
        """Give the claim up if it is not needed any more."""
        if claim.waiting or self._here(claim) is not None:
            return
        if self._held.get(claim.pattern.text) is claim and not claim.owed:
            del self._held[claim.pattern.text]
            self._metrics.claims -= 1
            if claim.granted and self._bus.claims is not None:
                claim.granted = False
                self._bus.claims.release(claim.pattern, self._fleet.node, partial(self._released, claim))

    def _released(self, claim: _Claim, error: NexusError | None) -> None:
        if error is not None:  # it may still be there
            self._owe(self._claim(claim.pattern))

    # --- Part: the claims of a node that is gone are given up by its heir

    def received(self, _node: str, _body: bytes) -> None:
        """Do nothing: nodes agree by the bus."""

    def joined(self, _node: str) -> None:
        """Do nothing: nodes agree by the bus."""

    def left(self, node: str, heir: bool) -> None:
        if heir:
            self._gone[node] = self._fleet.hold(node)
            self._settle_now()

    def fenced(self) -> None:
        """Do nothing: what this node had claimed is given up by its heir."""

    def renewed(self) -> None:
        for claim in self._held.values():
            claim.granted, claim.owed = False, True
        self._settle_now()

    # --- later

    def _owe(self, claim: _Claim) -> None:
        claim.owed = True
        self._wake()

    def _wake(self) -> None:
        if self._timer is None:
            self._timer = self._clock.callLater(AGAIN, self._settle)

    def _settle_now(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._settle()

    def _settle(self) -> None:
        """Ask the bus again for what it has not answered."""
        self._timer = None
        claims = self._bus.claims
        if not self._bus.available or claims is None:
            if claims is not None:
                self._wake()
            return
        node = self._fleet.node
        for name in list(self._gone):
            claims.forget(name, partial(self._forgotten, name))
        for claim in [claim for claim in self._held.values() if claim.owed and not claim.waiting]:
            claim.owed = False
            registration = self._here(claim)
            if registration is None:
                claim.granted = True  # perhaps: to be given up in any case
                self._check(claim)
            else:
                again = partial(self._again, claim, registration.invoke)
                claims.claim(claim.pattern, registration.invoke, node, again)
        if self._gone or any(claim.owed for claim in self._held.values()):
            self._wake()

    def _again(self, claim: _Claim, invoke: str, error: NexusError | None) -> None:
        if error is None:
            claim.granted, claim.invoke = True, invoke
            self._check(claim)
        elif error.code == "bus_unavailable":
            self._owe(claim)
        else:
            claim.granted = False
            self._metrics.registrations_refused += 1
            registration = self._here(claim)
            if registration is not None:
                self._revoke(registration, error)
            self._check(claim)

    def _forgotten(self, node: str, error: NexusError | None) -> None:
        if error is None:
            settled = self._gone.pop(node, None)
            if settled is not None:
                settled()
        else:
            self._wake()

    def stop(self) -> None:
        """Ask for nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._metrics.claims -= len(self._held)
        self._held.clear()
        self._gone.clear()


def _nobody(_registration: SharedRegistration, _error: NexusError) -> None:
    raise AssertionError("`connect` was not called")
