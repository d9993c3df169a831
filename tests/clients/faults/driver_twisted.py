"""The program of `driver.py` on the Twisted client: `python -m tests.clients.faults.driver_twisted OPTIONS`."""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from nexus_client.events import Event, Gap
from nexus_client.spool import Spool
from nexus_client.twisted import Call, Nexus
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue, ensureDeferred, gatherResults, maybeDeferred
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from tests.clients.faults.facts import Order, say, shown

clock: Any = reactor


class Driver(LineOnlyReceiver):
    delimiter = b"\n"

    def __init__(self, options: Order) -> None:
        self.over: Deferred[None] = Deferred()
        self._tokens: DeferredQueue[str] = DeferredQueue()
        self._released: defaultdict[int, Deferred[None]] = defaultdict(Deferred)
        tls = None
        if "authority" in options:
            tls = optionsForClientTLS("localhost", trustRoot=Certificate.loadPEM(Path(options["authority"]).read_bytes()))
        spool = Spool(options["spool"]) if "spool" in options else None
        token = options.get("token", self._token)
        self.nexus = Nexus(reactor, options["url"], token=token, agent=options.get("agent"), spool=spool, tls=tls)
        self.nexus.on_state(self._state)

    def _token(self) -> Deferred[str]:
        say(fact="token")
        return self._tokens.get()

    def _state(self, state: Any) -> None:
        error = None if state.error is None else type(state.error).__name__
        say(fact="state", state=state.state, retryIn=state.retry_in, error=error, reason=state.reason)

    def lineReceived(self, line: bytes) -> None:
        order = json.loads(line)
        if order["do"] == "close":
            self.nexus.close().chainDeferred(self.over)
            return
        number = order["n"]
        done: Deferred[Any] = maybeDeferred(getattr(self, f"do_{order['do']}"), order)

        def failed(failure: Failure) -> None:
            assert failure.value is not None
            say(fact="failed", n=number, **shown(failure.value))

        done.addCallbacks(lambda result: say(fact="done", n=number, result=result), failed)

    def do_token(self, order: Order) -> None:
        self._tokens.put(order["token"])

    def do_subscribe(self, order: Order) -> None:
        self.nexus.subscribe(order["patterns"], self._item, where=order.get("where"))

    def _item(self, item: Event | Gap) -> None:
        if isinstance(item, Gap):
            say(fact="gap", type=item.type, reason=item.reason, position=item.position, since=item.since)
        else:
            say(fact="event", type=item.type, data=item.data, position=item.position)

    def do_publish(self, order: Order) -> Deferred[Any]:
        return self.nexus.publish(order["type"], order["data"])

    def do_telemetry(self, order: Order) -> Deferred[None]:
        return ensureDeferred(self._telemetry(order))

    async def _telemetry(self, order: Order) -> None:
        samples = [await self.nexus.telemetry(number=number) for number in range(order["first"], order["last"] + 1)]
        say(fact="spooled", n=order["n"])
        await gatherResults([sample.stored() for sample in samples])

    def do_call(self, order: Order) -> Deferred[Any]:
        return self.nexus.call(
            order["command"], {"number": order["number"]}, target=order["target"], timeout=30, retries=order["retries"]
        )

    def do_serve(self, order: Order) -> None:
        @self.nexus.command(order["command"])
        async def run(call: Call, number: int) -> dict[str, int]:
            say(fact="ran", number=number)
            await self._released[number]
            return {"number": number}

    def do_release(self, order: Order) -> None:
        self._released[order["number"]].callback(None)

    def do_clock(self, order: Order) -> None:
        """The reactor's time is the wall clock's."""
        real = time.time
        time.time = clock.seconds = lambda: real() + order["by"]

    def do_stats(self, order: Order) -> Any:
        return {name: getattr(self.nexus.stats, name) for name in ("attempts", "gaps", "events", "duplicates", "garbage")}


async def drive(options: Order) -> None:
    driver = Driver(options)
    StandardIO(driver)
    driver.nexus.startService()
    await driver.over
    say(fact="over")


if __name__ == "__main__":
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    react(lambda _: ensureDeferred(drive(json.loads(sys.argv[1]))))
