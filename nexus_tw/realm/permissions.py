"""Permissions: authorizes a client's request, and keeps its place among that client's other requests."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from nexus_tw.commands.calls import Calls
from nexus_tw.interfaces.peers import Fail, Peer
from nexus_tw.interfaces.realm import AuthorizeRequest
from nexus_tw.model.errors import NexusError
from nexus_tw.model.policy import EVERYTHING, Principal
from nexus_tw.pubsub.order import Lines
from nexus_tw.realm.authorization import Authorization
from nexus_tw.runtime.client_log import ClientLog


class Permissions:
    """Decides requests by the grants of the client's role and then, if the realm has one, by its authorizer."""

    def __init__(self, lines: Lines, calls: Calls, authorization: Authorization | None, journal: ClientLog) -> None:
        """`authorization` is None if the realm has no authorizer: then each request's rights are checked when it is carried
        out."""
        self._lines = lines
        self._calls = calls
        self._authorization = authorization
        self._journal = journal

    def authorize(
        self, peer: Peer, request: AuthorizeRequest, allowed: Callable[[Principal], None], denied: Fail
    ) -> None:
        """See `Verbs.authorize`."""
        principal = peer.principal
        authorization = self._authorization
        if authorization is None:
            granted = True
        elif request.action == "call":
            granted = self._calls.granted(principal, request.uri)
        else:
            granted = authorization.grants(principal, request)
        if granted and not self._lines.waits(peer):
            allowed(principal)
            return
        if request.action == "call":
            denied = self._noted(peer, request.uri, denied)
        try:
            place = self._lines.place(peer, 0 if request.payload is None else request.payload.size)
        except NexusError as error:
            denied(error)
            return
        if granted or authorization is None:
            place.ready(lambda: allowed(principal))
        else:
            if request.action == "call":
                request = replace(request, uri=self._calls.named(request.uri))
            authorization.ask(
                principal,
                request,
                lambda: place.ready(lambda: allowed(EVERYTHING)),
                lambda error: place.ready(lambda: denied(error)),
            )

    def _noted(self, peer: Peer, uri: str, denied: Fail) -> Fail:
        """Return `denied` with an entry in the log about clients for the refused call."""

        def fail(error: NexusError) -> None:
            who = peer.principal
            self._journal.called(who.account, who.subject, uri, f"refused: {error.code}")
            denied(error)

        return fail
