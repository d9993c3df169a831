"""The contract of WAMP authentication, which `nexus_tw.auth.wamp.introductions` implements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from nexus_tw.model.policy import Principal


class Introduction(Protocol):
    """The authentication of one client, in progress."""

    def authenticate(self, signature: str, extra: Mapping[str, Any]) -> None: ...

    def abandon(self) -> None: ...


class Welcome(Protocol):
    """A successful authentication: the principal, and the method that identified it."""

    @property
    def principal(self) -> Principal: ...

    @property
    def authmethod(self) -> str: ...

    @property
    def authprovider(self) -> str: ...

    @property
    def authextra(self) -> Mapping[str, Any]: ...


class Refusal(Protocol):
    """A failed authentication: the reason why the client may not join."""

    @property
    def uri(self) -> str: ...

    @property
    def message(self) -> str: ...

    @property
    def passing(self) -> bool:
        """Whether the cause is temporary and not the client's fault, so that it may retry unchanged."""


class Introductions(Protocol):
    """Authenticates WAMP clients."""

    def introduce(
        self,
        realm: str,
        details: Mapping[str, Any],
        session: int,
        principal: Principal | None,
        address: str,
        challenged: Callable[[str, dict[str, Any]], None],
        welcomed: Callable[[Any], None],
        refused: Callable[[Any], None],
    ) -> Introduction:
        """Begin to authenticate the client of a HELLO, and answer by one of the callbacks.

        `challenged` gets the authmethod and the CHALLENGE's extra, `welcomed` a `Welcome`, `refused` a `Refusal`. `principal`
        is that of the transport, if any; `session` is the session's id.
        """
