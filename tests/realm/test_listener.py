"""The listener of a realm's bus: who gets which message, and who hears first that the bus is back."""

from __future__ import annotations

from typing import Any, cast

from nexus_tw.fleet.envelopes import Envelope, Word, encode
from nexus_tw.interfaces.carriers import EventListener
from nexus_tw.realm.listener import RealmListener


class Heard:
    """Records calls under a name."""

    def __init__(self, name: str, calls: list[tuple[object, ...]]) -> None:
        self._name = name
        self._calls = calls

    def __getattr__(self, what: str) -> Any:
        return lambda *arguments: self._calls.append((self._name, what, *arguments))


def test_mail_goes_to_the_fleet_and_all_else_to_publish_and_subscribe() -> None:
    calls: list[tuple[object, ...]] = []
    presence = Heard("presence", calls)
    listener = RealmListener(cast(Any, Heard("events", calls)), cast(Any, Heard("fleet", calls)), presence.restored)
    assert isinstance(listener, EventListener)
    mail = encode(Envelope("b", "a", Word.MAIL, 0, 1))
    for body in (mail, b"{}", b""):
        listener.message(body)
    listener.event("a.b", b"1", b"")
    listener.lost()
    listener.restored()
    assert calls == [
        *(("fleet", "message", mail), ("events", "message", b"{}"), ("events", "message", b"")),
        ("events", "event", "a.b", b"1", b""),
        *(("fleet", "lost"), ("events", "lost"), ("presence", "restored"), ("fleet", "restored"), ("events", "restored")),
    ]
