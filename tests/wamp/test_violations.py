"""What is no WAMP ends a session with ABORT, what cannot be done ends a request with ERROR, and the rest is let pass."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from tests.client import BINARY, TEXT
from tests.wamp.peer import (
    ABORT,
    AUTHENTICATE,
    CALL,
    CANCEL,
    ERROR,
    EVENT,
    GOODBYE,
    HELLO,
    INVOCATION,
    PUBLISH,
    REGISTER,
    RESULT,
    ROLES,
    SUBSCRIBE,
    SUBSCRIBED,
    UNREGISTER,
    UNSUBSCRIBE,
    WELCOME,
    YIELD,
    Peer,
    Refused,
    connect,
)
from tests.wamp.router import Router


@pytest_twisted.async_yield_fixture
async def open_up(router: Router) -> Any:
    made: list[Peer] = []

    async def one(serializer: str = "json") -> Peer:
        made.append(await connect(router.port, serializer))
        return made[-1]

    yield one
    for peer in made:
        peer.drop()


@pytest_twisted.async_yield_fixture
async def peer(open_up: Any) -> Any:
    """A session that has joined."""
    yield await (await open_up()).join("realm1")


async def aborted(peer: Peer) -> None:
    """The session ends with ABORT, and then the connection with the same reason."""
    ended = await peer.ended()
    code, details, reason = await peer.receive()
    assert (code, reason) == (ABORT, "wamp.error.protocol_violation")
    assert details["message"]
    assert (ended.code, ended.reason) == (1002, "Protocol violation")


FIRST: list[tuple[Any, ...]] = [
    (SUBSCRIBE, 1, {}, "com.example"),
    (GOODBYE, {}, "wamp.close.close_realm"),
    (AUTHENTICATE, "", {}),
    (WELCOME, 1, {}),
    (HELLO, "realm1", {}),
    (HELLO, "realm1", {"roles": {}}),
    (HELLO, "realm1", {"roles": {"prophet": {}}}),
    (HELLO, "realm1", {"roles": {"caller": True}}),
    (HELLO, "realm1", {"roles": ["caller"]}),
    (HELLO, 1, {"roles": ROLES}),
    (HELLO, "realm1"),
]


@pytest.mark.parametrize("message", FIRST, ids=repr)
@pytest_twisted.ensureDeferred
async def test_who_does_not_begin_with_a_right_hello_is_aborted(open_up: Any, message: tuple[Any, ...]) -> None:
    peer = await open_up()
    peer.send(*message)
    await aborted(peer)


WRONG: list[tuple[Any, ...]] = [
    (HELLO, "realm1", {"roles": ROLES}),
    (AUTHENTICATE, "", {}),
    (EVENT, 1, 1, {}),
    (RESULT, 1, {}),
    (9999, 1, {}),
    ("16", 1, {}, "com.example"),
    (),
    (SUBSCRIBE,),
    (SUBSCRIBE, 1, {}),
    (SUBSCRIBE, 1, {}, "com.example", "more"),
    (SUBSCRIBE, 1, [], "com.example"),
    (SUBSCRIBE, 1, {}, 5),
    (SUBSCRIBE, 0, {}, "com.example"),
    (SUBSCRIBE, -1, {}, "com.example"),
    (SUBSCRIBE, 2**53 + 1, {}, "com.example"),
    (SUBSCRIBE, 1.5, {}, "com.example"),
    (SUBSCRIBE, True, {}, "com.example"),
    (SUBSCRIBE, "1", {}, "com.example"),
    (SUBSCRIBE, 1, {"match": "nearly"}, "com.example"),
    (PUBLISH, 1, {"acknowledge": 1}, "com.example"),
    (PUBLISH, 1, {"exclude": 5}, "com.example"),
    (PUBLISH, 1, {}, "com.example", {}),
    (PUBLISH, 1, {}, "com.example", None),
    (PUBLISH, 1, {}, "com.example", [], []),
    (CALL, 1, {"timeout": -1}, "com.example"),
    (CANCEL, 1, {"mode": "softly"}),
    (REGISTER, 1, {"invoke": "alphabetically"}, "com.example"),
    (YIELD, 1, {"progress": "yes"}),
    (ERROR, CALL, 1, {}, "com.example.error"),
]


@pytest.mark.parametrize("message", WRONG, ids=repr)
@pytest_twisted.ensureDeferred
async def test_what_is_no_message_ends_a_session(peer: Peer, message: tuple[Any, ...]) -> None:
    peer.send(*message)
    await aborted(peer)


@pytest.mark.parametrize("data", [b"", b"{", b"{}", b'"text"', b"[" * 100_000])
@pytest_twisted.ensureDeferred
async def test_what_is_no_json_ends_a_session(peer: Peer, data: bytes) -> None:
    peer.write(data)
    await aborted(peer)


@pytest.mark.parametrize("serializer", ["msgpack", "cbor"])
@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x00", b"\xff", b"\xdd" + b"\xff" * 4, b"\x9b" + b"\xff" * 8])
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_decoded_ends_a_session(open_up: Any, serializer: str, data: bytes) -> None:
    peer = await (await open_up(serializer)).join("realm1")
    peer.write(data)
    await aborted(peer)


@pytest.mark.parametrize(("serializer", "opcode"), [("json", BINARY), ("msgpack", TEXT), ("cbor", TEXT)])
@pytest_twisted.ensureDeferred
async def test_each_serializer_has_its_kind_of_frame(open_up: Any, serializer: str, opcode: int) -> None:
    peer = await (await open_up(serializer)).join("realm1")
    peer.write(b"[5]", opcode)
    await aborted(peer)


REFUSED: list[tuple[int, tuple[Any, ...], str]] = [
    (SUBSCRIBE, ({}, "com..example"), "invalid_uri"),
    (SUBSCRIBE, ({}, "com.example."), "invalid_uri"),
    (SUBSCRIBE, ({}, ""), "invalid_uri"),
    (SUBSCRIBE, ({}, "com. example"), "invalid_uri"),
    (SUBSCRIBE, ({"match": "prefix"}, "com..example"), "invalid_uri"),
    (PUBLISH, ({"acknowledge": True}, "com.#.example"), "invalid_uri"),
    (PUBLISH, ({"acknowledge": True}, "wamp.example"), "invalid_uri"),
    (REGISTER, ({}, "com..example"), "invalid_uri"),
    (REGISTER, ({}, "wamp.example"), "invalid_uri"),
    (CALL, ({}, "com..example"), "invalid_uri"),
    (CALL, ({}, "com.example.nobody"), "no_such_procedure"),
    (CALL, ({}, "wamp.session.nothing"), "no_such_procedure"),
    (CALL, ({}, "wamp.session.get", ["one"]), "invalid_argument"),
    (UNSUBSCRIBE, (1234567,), "no_such_subscription"),
    (UNREGISTER, (1234567,), "no_such_registration"),
]


@pytest.mark.parametrize(("code", "rest", "reason"), REFUSED, ids=repr)
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_done_is_told_and_no_more(peer: Peer, code: int, rest: tuple[Any, ...], reason: str) -> None:
    peer.send(code, 7, *rest)
    error = await peer.expect(ERROR)
    assert (error[:2], error[3]) == ([code, 7], f"wamp.error.{reason}")
    await peer.subscribe("com.example")


@pytest.mark.parametrize(
    ("uri", "why"), [("com.*.example", "hold no '#', '*'"), ("com." + "x" * 252, "longer than 255 bytes")]
)
@pytest_twisted.ensureDeferred
async def test_a_loose_uri_that_is_no_name_is_refused_and_told_why(peer: Peer, uri: str, why: str) -> None:
    """A legal loose URI with `*`, or of more than 255 bytes."""
    for code in (SUBSCRIBE, REGISTER, CALL):
        peer.send(code, 7, {}, uri)
        error = await peer.expect(ERROR)
        assert error[:2] == [code, 7]
        assert error[3] == "wamp.error.invalid_uri"
        assert why in error[4][0]


@pytest_twisted.ensureDeferred
async def test_what_is_harmless_is_let_pass(peer: Peer) -> None:
    peer.send(PUBLISH, 1, {}, "wamp.example")  # nobody asked whether it was heard
    peer.send(PUBLISH, 2, {}, "com..example")
    peer.send(CANCEL, 99, {})
    peer.send(YIELD, 99, {}, [1])
    peer.send(ERROR, INVOCATION, 99, {}, "com.example.error")
    for request in (5, 5, 2**53, 1):  # ids may skip and come again
        peer.send(SUBSCRIBE, request, {"_private": 1, "nobody_knows": [None]}, "com.example")
        assert (await peer.expect(SUBSCRIBED))[0] == request


@pytest_twisted.ensureDeferred
async def test_a_goodbye_is_answered_and_the_last_word(peer: Peer) -> None:
    assert await peer.leave() == "wamp.close.goodbye_and_out"


@pytest.mark.parametrize(
    ("realm", "details", "reason"),
    [
        ("nowhere", {}, "no_such_realm"),
        ("nexus", {}, "no_matching_auth_method"),
        ("realm1", {"authmethods": ["telepathy"]}, "no_matching_auth_method"),
        ("realm1", {"authmethods": ["wampcra"]}, "no_matching_auth_method"),  # as nobody in particular
    ],
)
@pytest_twisted.ensureDeferred
async def test_who_may_not_join_is_told_why(open_up: Any, realm: str, details: dict[str, Any], reason: str) -> None:
    peer = await open_up()
    with pytest.raises(Refused) as caught:
        await peer.join(realm, **details)
    assert caught.value.uri == f"wamp.error.{reason}"
    assert (await peer.ended()).code == 1008
