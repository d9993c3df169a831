"""The users of `conf/wamp-suites.toml`, and their ways to join a router that has them."""

from __future__ import annotations

from typing import Final, NamedTuple


class User(NamedTuple):
    method: str
    authid: str = ""
    secret: str = ""  # ticket, password, or in hex the private key


USERS: Final = {
    "anonymous": User("anonymous"),
    "ticket": User("ticket", "ticket-user", "ticket-pass"),
    "wampcra": User("wampcra", "wamp-cra-user", "cra-secret"),
    "salted": User("wampcra", "wamp-cra-salt-user", "cra-salt-secret"),
    "cryptosign": User(
        "cryptosign", "cryptosign-user", "150085398329d255ad69e82bf47ced397bcec5b8fbeecd28a80edbbd85b49081"
    ),
    "scram": User("scram", "scram-user", "scram-secret"),
}

SERIALIZERS: Final = ("json", "msgpack", "cbor")
WAYS: Final = [(transport, serializer) for transport in ("ws", "rs") for serializer in SERIALIZERS]
"""WebSocket and RawSocket, with each serializer."""
