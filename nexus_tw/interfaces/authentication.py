"""How a session finds out who its client is; `nexus_tw.auth.wamp.introductions` does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from nexus_tw.model.policy import Principal


class Introduction(Protocol):
    """A client on its way in."""

    def authenticate(self, signature: str, extra: Mapping[str, Any]) -> None: ...

    def abandon(self) -> None: ...


class Welcome(Protocol):
    """Who the client is, and how that was found out."""

    @property
    def principal(self) -> Principal: ...

    @property
    def authmethod(self) -> str: ...

    @property
    def authprovider(self) -> str: ...

    @property
    def authextra(self) -> Mapping[str, Any]: ...


class Refusal(Protocol):
    """Why the client may not join."""

    @property
    def uri(self) -> str: ...

    @property
    def message(self) -> str: ...

    @property
    def passing(self) -> bool:
        """Whether it is no fault of the client's, which may come again as it is."""


class Introductions(Protocol):
    """Finds out who clients are."""

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
        """Answers a HELLO by one of the three, `welcomed` with a `Welcome`, `refused` with a `Refusal`."""
