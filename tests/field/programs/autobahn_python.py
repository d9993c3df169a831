"""WAMP by Autobahn|Python's Component, which reconnects by itself: `… twisted|asyncio websocket|rawsocket CELLS`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import txaio
from autobahn.wamp.exception import ApplicationError

from tests.field.programs.cells import AUTHID, DENIED, ECHO, FIRST_RETRY, LAST_RETRY, REALM, SAID, Cell, cells

NETWORK, CARRIER = sys.argv[1:3]
if NETWORK == "twisted":  # the library is of one kind in a process
    from autobahn.twisted.component import Component
    from twisted.internet import reactor
else:
    from autobahn.asyncio.component import Component


def transport(cell: Cell) -> dict[str, Any]:
    endpoint: dict[str, Any]
    if cell.unix:
        endpoint = {"type": "unix", "path": cell.unix}
    else:
        endpoint = {"type": "tcp", "host": cell.host, "port": cell.port}
        if cell.secure:
            endpoint["tls"] = True
        if ":" in cell.host:
            endpoint["version"] = 6
    retries = {"max_retries": -1, "initial_retry_delay": FIRST_RETRY, "max_retry_delay": LAST_RETRY}
    if CARRIER == "rawsocket":
        return {"type": "rawsocket", "url": cell.url("rs"), "endpoint": endpoint, "serializer": "cbor", **retries}
    return {"type": "websocket", "url": cell.url("ws", "/ws"), "endpoint": endpoint, "serializers": ["cbor"], **retries}


def denied(error: Exception) -> bool:
    return isinstance(error, ApplicationError) and error.error == DENIED


def component(cell: Cell) -> Any:
    made = Component(
        transports=[transport(cell)],
        realm=REALM,
        authentication={"ticket": {"authid": AUTHID, "ticket": cell.token}},
        is_fatal=denied,
    )

    async def joined(session: Any, _details: Any) -> None:
        for topic in cell.topics:
            await session.subscribe(lambda n=None, **_: cell.hear(n), topic)
        if cell.talks:
            session.publish(SAID, cell=cell.name)
            await session.register(lambda value: value, ECHO + cell.name)
        cell.say("open")

    def left(_session: Any, details: Any) -> None:
        if details.reason == DENIED:
            cell.say("refused", why=details.reason)

    made.on("join", joined)
    made.on("leave", left)
    made.on("disconnect", lambda _session, was_clean: cell.say("closed", clean=was_clean))
    return made


def main() -> None:
    made = [component(cell) for cell in cells()]
    # What a Component tells its caller when it gives up was said by `left`.
    if NETWORK == "twisted":
        for each in made:
            each.start(reactor).addErrback(lambda _failure: None)
        reactor.run()
    else:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        txaio.config.loop = loop
        for each in made:
            txaio.add_callbacks(each.start(loop), None, lambda _failure: None)
        loop.run_forever()


if __name__ == "__main__":
    main()
