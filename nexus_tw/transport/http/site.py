"""The site: makes channels and requests for accepted connections."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Any

from twisted.python.failure import Failure
from twisted.web.server import Request, Site

from nexus_tw.model.errors import NexusError
from nexus_tw.transport.http.body import Body
from nexus_tw.transport.http.channel import IDLE, Channel
from nexus_tw.transport.http.routes import Root
from nexus_tw.transport.opening import Opening


class StreamedRequest(Request):
    """A request that is served as soon as its header block is complete; its body follows in `body`."""

    channel: Any
    opening: Opening
    body: Body
    gone = False  # the client has disconnected

    def __init__(
        self, serve: Callable[[StreamedRequest], None], largest_body: int, channel: Any, queued: object
    ) -> None:
        """`serve` is called with the request once its header block is complete; `largest_body` in bytes, 0 for any."""
        super().__init__(channel, queued)  # type: ignore[no-untyped-call]
        self._serve = serve
        self._largest_body = largest_body

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()  # Twisted closes one
        self.body = Body(self.channel, self.opening, length, self._largest_body)

    @property
    def leaves_http(self) -> bool:
        """Whether the connection is another one after this request: a WebSocket, or an event stream."""
        return self.opening.upgrade or self.opening.event_stream

    def opened(self) -> None:
        """Serve the request, unless the connection leaves HTTP with it: then `Root.render` takes the connection back."""
        if not self.leaves_http:
            self._serve(self)

    def handleContentChunk(self, data: bytes) -> None:
        self.body.received(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if self.leaves_http:
            super().requestReceived(command, path, version)  # type: ignore[no-untyped-call]
        else:
            self.body.ended()

    def connectionLost(self, reason: Failure) -> None:
        self.gone = True
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self.body.lost()

    def processingFailed(self, reason: Failure) -> Failure | None:
        # Twisted's own page would name Twisted.
        self._log.failure("A request could not be answered", reason)
        if not self.gone:
            self.body.channel.refuse(NexusError("internal", "Something went wrong in the server"))
        return None


class BoundedSite(Site):
    """A Twisted Web site with bounded requests, and without an access log, which would hold tokens."""

    def __init__(self, root: Root, reactor: Any, largest_head: int, largest_body: int) -> None:
        """Sizes are in bytes; `largest_body` 0 is any size."""
        # No form is parsed: no token is looked for in one.
        requests = partial(StreamedRequest, root.opened, largest_body)
        super().__init__(root, requests, reactor=reactor, timeout=IDLE, parsePOSTFormSubmission=False)  # type: ignore[no-untyped-call]
        self._largest_head = largest_head
        self._admission = root.admission

    def protocol(self) -> Channel:  # type: ignore[override]
        """Return a new connection, for Twisted to complete."""
        return Channel(self._largest_head, self._admission)
