"""swampyer, over WebSocket."""

from __future__ import annotations

import threading
from typing import Any

import swampyer

from tests.wamp.clients.returning.say import REALM, TICKET, TOPIC, WEBSOCKET, hear, say


class Client(swampyer.WAMPClientTicket):
    def handle_join(self, details: Any) -> None:
        def subscribe() -> None:
            self.subscribe(TOPIC, lambda _event, word: hear(word))
            say(joined=details.session_id)

        threading.Thread(target=subscribe).start()


if __name__ == "__main__":
    try:
        Client(url=WEBSOCKET, realm=REALM, auto_reconnect=0.3, username="somebody", password=TICKET).start()
    except swampyer.ExAbort as error:
        say(stopped=str(error))
    threading.Event().wait()
