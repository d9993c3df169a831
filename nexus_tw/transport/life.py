"""The life of a connection as a state machine: new, authenticating, open, closing, closed."""

from __future__ import annotations

from typing import Final, Protocol

from automat import TypeMachineBuilder

from nexus_tw.model.errors import Close


class Owner(Protocol):
    """Whose life it is: what is to be done on the way."""

    def begin(self) -> None:
        """The client is known and may speak."""

    def farewell(self, close: Close) -> None:
        """The connection is to be closed: say why, send a close frame."""

    def end(self) -> None:
        """An open connection is over: forget all that it had."""


class Life(Protocol):
    """What can happen to a connection."""

    def upgraded(self) -> None:
        """The WebSocket handshake succeeded, the client is not yet accepted."""

    def accepted(self) -> None:
        """The client has shown who it is."""

    def close(self, close: Close) -> None:
        """This side closes."""

    def closing(self) -> None:
        """The other side closes, or the protocol failed: nothing is to be sent any more."""

    def lost(self) -> None:
        """The transport is gone."""


def _builder() -> TypeMachineBuilder[Life, Owner]:
    builder = TypeMachineBuilder(Life, Owner)  # type: ignore[type-abstract]
    new = builder.state("new")
    authenticating = builder.state("authenticating")
    open_ = builder.state("open")
    closing = builder.state("closing")
    closed = builder.state("closed")

    @new.upon(Life.upgraded).to(authenticating)
    def upgraded(_life: Life, _owner: Owner) -> None:
        """Now the client has to be accepted or refused."""

    @authenticating.upon(Life.accepted).to(open_)
    def accepted(_life: Life, owner: Owner) -> None:
        owner.begin()

    @authenticating.upon(Life.close).to(closing)
    def refuse(_life: Life, owner: Owner, close: Close) -> None:
        owner.farewell(close)

    @open_.upon(Life.close).to(closing)
    def close_open(_life: Life, owner: Owner, close: Close) -> None:
        owner.farewell(close)
        owner.end()

    @open_.upon(Life.closing).to(closing)
    def closing_open(_life: Life, owner: Owner) -> None:
        owner.end()

    @open_.upon(Life.lost).to(closed)
    def lost_open(_life: Life, owner: Owner) -> None:
        owner.end()

    for state in (new, authenticating, closing):
        state.upon(Life.lost).to(closed).returns(None)
    for state in (new, closing, closed):
        state.upon(Life.close).loop().returns(None)
    for state in (new, authenticating, closing, closed):
        state.upon(Life.closing).to(closing if state is authenticating else state).returns(None)
    closed.upon(Life.lost).loop().returns(None)
    return builder


new_life = _builder().build()
"""Makes the machine for one connection: `new_life(owner)`."""


class _Ended:
    """The life of a connection that is gone: nothing happens to it, and it refers to nobody."""

    def upgraded(self) -> None:
        pass

    def close(self, close: Close) -> None:
        pass

    accepted = closing = lost = upgraded


ENDED: Final[Life] = _Ended()
