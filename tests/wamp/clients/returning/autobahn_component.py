"""The program for both of Autobahn|Python's frameworks."""

from __future__ import annotations

from typing import Any

from tests.wamp.clients.returning.say import PORT, REALM, TICKET, TOPIC, WAY, WEBSOCKET, hear, say

RETRY = {"initial_retry_delay": 0.3, "retry_delay_growth": 1.0, "retry_delay_jitter": 0.1, "max_retries": -1}
ENDPOINT = {"type": "tcp", "host": "127.0.0.1", "port": PORT}
TRANSPORTS = {
    "ws": {"type": "websocket", "url": WEBSOCKET, "endpoint": ENDPOINT, "serializers": ["json"], **RETRY},
    "rs": {"type": "rawsocket", "url": f"rs://127.0.0.1:{PORT}", "endpoint": ENDPOINT, "serializer": "json", **RETRY},
}


def work(component_class: Any, run: Any) -> None:
    shown = {"ticket": {"authid": "somebody", "ticket": TICKET}}
    component = component_class(transports=[TRANSPORTS[WAY]], realm=REALM, authentication=shown)

    @component.on_connectfailure
    def failed(_component: Any, error: Any) -> None:
        say(refused=str(error))

    @component.on_join
    async def joined(session: Any, details: Any) -> None:
        await session.subscribe(hear, TOPIC)
        say(joined=details.session)

    try:
        run([component], log_level="error")
    finally:
        say(stopped="the component is done")
