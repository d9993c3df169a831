"""The life of a connection as a state machine: new, authenticating, open, closing, closed."""

from __future__ import annotations

from typing import Final, Protocol

from automat import TypeMachineBuilder

from nexus_tw.model.errors import Close


class Transitions(Protocol):
    """The connection with this life: the actions on the way."""

    def begin(self) -> None:
        """Start the session: the client is authenticated."""

    def farewell(self, close: Close) -> None:
        """Close the connection: give the reason, send a close frame."""

    def end(self) -> None:
        """Release everything of an open connection that is over."""


class Life(Protocol):
    """The events of a connection."""

    def upgraded(self) -> None:
        """The WebSocket handshake succeeded; the client is not yet accepted."""

    def accepted(self) -> None:
        """The client is authenticated."""

    def close(self, close: Close) -> None:
        """This side closes."""

    def closing(self) -> None:
        """The other side closes, or violated the protocol: nothing may be sent any more."""

    def lost(self) -> None:
        """The transport is gone."""


def _builder() -> TypeMachineBuilder[Life, Transitions]:
    builder = TypeMachineBuilder(Life, Transitions)  # type: ignore[type-abstract]
    new = builder.state("new")
    authenticating = builder.state("authenticating")
    open_ = builder.state("open")
    closing = builder.state("closing")
    closed = builder.state("closed")

    @new.upon(Life.upgraded).to(authenticating)
    def upgraded(_life: Life, _owner: Transitions) -> None:
        """Wait for the client to be accepted or refused."""

    @authenticating.upon(Life.accepted).to(open_)
    def accepted(_life: Life, owner: Transitions) -> None:
        owner.begin()

    @authenticating.upon(Life.close).to(closing)
    def refuse(_life: Life, owner: Transitions, close: Close) -> None:
        owner.farewell(close)

    @open_.upon(Life.close).to(closing)
    def close_open(_life: Life, owner: Transitions, close: Close) -> None:
        owner.farewell(close)
        owner.end()

    @open_.upon(Life.closing).to(closing)
    def closing_open(_life: Life, owner: Transitions) -> None:
        owner.end()

    @open_.upon(Life.lost).to(closed)
    def lost_open(_life: Life, owner: Transitions) -> None:
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
"""Return the machine for one connection: `new_life(owner)`."""


class _Ended:
    """The life of a closed connection: ignores all events, and refers to no connection."""

    def upgraded(self) -> None:
        pass

    def close(self, close: Close) -> None:
        pass

    accepted = closing = lost = upgraded


ENDED: Final[Life] = _Ended()
