"""WAMP by PyPI's `swampyer`, with a thread for each session, which reconnects by itself: `… websocket|rawsocket CELLS`."""

from __future__ import annotations

import ssl
import sys
import threading
from typing import Any

from swampyer import WAMPClientTicket
from swampyer.exceptions import ExAbort

from tests.field.programs.cells import AUTHID, ECHO, REALM, SAID, Cell, cells


def url(cell: Cell) -> str:
    if sys.argv[1] == "rawsocket":
        return f"unix://{cell.unix}" if cell.unix else cell.url("tcpip")
    return cell.url("ws", "/ws")


class Member(WAMPClientTicket):
    cell: Cell

    joined = False

    def handle_join(self, details: Any) -> None:
        # Called after each return as well; what was subscribed and registered before is so again by the library.
        super().handle_join(details)
        if not self.joined:
            self.joined = True
            self.introduce()
        self.cell.say("open")

    def introduce(self) -> None:
        cell = self.cell
        for topic in cell.topics:
            self.subscribe(topic, lambda _event, *_, n=None, **__: cell.hear(n))
        if cell.talks:
            self.publish(SAID, kwargs={"cell": cell.name})
            self.register(ECHO + cell.name, lambda _invocation, value: value)

    def handle_disconnect(self) -> None:
        self.cell.say("closed")


def live(cell: Cell) -> None:
    trust = ssl.create_default_context() if cell.secure else None
    member = Member(
        url=url(cell), realm=REALM, username=AUTHID, password=cell.token, sslopt=trust, serializers=["json"]
    )
    member.cell = cell
    try:
        member.start()
    except ExAbort as error:
        cell.say("refused", why=str(error))


if __name__ == "__main__":
    for each in cells():
        threading.Thread(target=live, args=(each,)).start()
    threading.Event().wait()
