"""The messages that a client may send, in each serializer, and the errors for others."""

from __future__ import annotations

from typing import Any

import cbor2
import msgspec
import pytest

from nexus_tw.model.serializers import CODECS, Codec, Violation
from nexus_tw.protocols.wamp.features import Features
from nexus_tw.protocols.wamp.messages import (
    Abort,
    AnyMessage,
    Authenticate,
    Call,
    CallOptions,
    Cancel,
    CancelOptions,
    Carrier,
    ClientMessage,
    Error,
    EventReceived,
    Goodbye,
    Hello,
    Publish,
    PublishOptions,
    Register,
    RegisterOptions,
    Subscribe,
    SubscribeOptions,
    Unregister,
    Unsubscribe,
    Yield,
    YieldOptions,
)
from nexus_tw.protocols.wamp.reading import READERS
from tests.model.samples import MESSAGES

EACH = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)


def members(message: ClientMessage) -> dict[str, Any]:
    return {name: getattr(message, name) for name in message.__struct_fields__}


@EACH
@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ([1, "realm1", {"roles": {"caller": {}}}], Hello("realm1", {"roles": {"caller": {}}})),
        ([3, {"message": "no"}, "a.b"], Abort({"message": "no"}, "a.b")),
        ([5, "signature", {"nonce": "x"}], Authenticate("signature", {"nonce": "x"})),
        ([6, {}, "a.b"], Goodbye({}, "a.b")),
        ([8, 68, 7, {}, "a.b"], Error(68, 7, {}, "a.b")),
        ([16, 1, {}, "a.b"], Publish(1, PublishOptions(), "a.b")),
        (
            [16, 1, {"acknowledge": True, "exclude_me": False}, "a"],
            Publish(1, PublishOptions(acknowledge=True, exclude_me=False), "a"),
        ),
        (
            [16, 1, {"exclude": [1], "eligible_authrole": ["r"]}, "a"],
            Publish(1, PublishOptions(exclude=[1], eligible_authrole=["r"]), "a"),
        ),
        ([16, 1, {"exclude": None, "ppt_scheme": None}, "a"], Publish(1, PublishOptions(), "a")),
        ([16, 1, {"exclude_me": None, "acknowledge": None, "retain": True}, "a"], Publish(1, PublishOptions(retain=True), "a")),
        ([32, 1, {"match": None, "get_retained": None, "mine": None}, "a"], Subscribe(1, SubscribeOptions(), "a")),
        ([48, 1, {"timeout": None, "receive_progress": None}, "a"], Call(1, CallOptions(), "a")),
        ([49, 1, {"mode": None}], Cancel(1, CancelOptions())),
        ([64, 1, {"match": None, "invoke": None, "disclose_caller": None}, "a"], Register(1, RegisterOptions(), "a")),
        ([70, 1, {"progress": None}], Yield(1, YieldOptions())),
        (
            [16, 1, {"ppt_scheme": "x_my", "ppt_keyid": "k"}, "a"],
            Publish(1, PublishOptions(ppt_scheme="x_my", ppt_keyid="k"), "a"),
        ),
        ([16, 1, {"unheard_of": [1], "_mine": {}}, "a"], Publish(1, PublishOptions(), "a")),
        ([32, 1, {}, "a"], Subscribe(1, SubscribeOptions(), "a")),
        ([32, 1, {"match": "wildcard", "get_retained": True}, "a"], Subscribe(1, SubscribeOptions("wildcard", True), "a")),
        ([34, 1, 2**53], Unsubscribe(1, 2**53)),
        ([48, 1, {"timeout": 5, "progress": True}, "a"], Call(1, CallOptions(timeout=5, progress=True), "a")),
        ([49, 1, {}], Cancel(1, CancelOptions())),
        ([49, 1, {"mode": "killnowait"}], Cancel(1, CancelOptions("killnowait"))),
        ([64, 1, {}, "a"], Register(1, RegisterOptions(), "a")),
        ([64, 1, {"_agent": "x", "concurrency": 2}, "a"], Register(1, RegisterOptions(agent="x"), "a")),
        ([66, 1, 2], Unregister(1, 2)),
        ([70, 1, {"progress": True}], Yield(1, YieldOptions(progress=True))),
        ([337, 1], EventReceived(1)),
    ],
)
def test_each_message_is_read_by_the_names_of_the_specification(codec: Codec, sent: list[Any], message: ClientMessage) -> None:
    read = READERS[codec.name](codec.encode(sent))
    assert type(read) is type(message)
    assert members(read) == members(message)


# What is undefined in JavaScript, as its clients write it.
UNDEFINED = {"msgpack": msgspec.msgpack.Ext(0, b"\0"), "cbor": cbor2.undefined}
BINARY = pytest.mark.parametrize("name", UNDEFINED)


def written(name: str, message: list[Any]) -> bytes:
    return msgspec.msgpack.encode(message) if name == "msgpack" else cbor2.dumps(message)


@BINARY
def test_what_is_undefined_is_absent(name: str) -> None:
    codec, no = CODECS[name], UNDEFINED[name]
    options = {"exclude_me": no, "exclude": no, "eligible_authid": ["a"], "ppt_scheme": no, "unheard_of": no}
    publish = READERS[codec.name](written(name, [16, 1, options, "a", ["text"], {"b": 1}]))
    assert isinstance(publish, Publish)
    assert publish.options == PublishOptions(eligible_authid=["a"])
    assert publish.args is not None
    assert publish.kwargs is not None
    assert [bytes(publish.args), bytes(publish.kwargs)] == [codec.encode(["text"]), codec.encode({"b": 1})]
    subscribe = READERS[codec.name](written(name, [32, 1, {"match": no, "get_retained": no}, "a"]))
    assert members(subscribe) == members(Subscribe(1, SubscribeOptions(), "a"))
    hello = READERS[codec.name](written(name, [1, "realm1", {"authid": no, "roles": {"caller": {"features": no}}}]))
    assert members(hello) == members(Hello("realm1", {"authid": None, "roles": {"caller": {"features": None}}}))


@BINARY
def test_nothing_but_an_option_can_be_undefined(name: str) -> None:
    no = UNDEFINED[name]
    for sent, why in (
        ([16, no, {}, "a"], "PUBLISH: request: Expected `int`, got "),
        ([16, 1, no, "a"], "PUBLISH: options: Expected `object`, got "),
        ([16, 1, {"exclude": [no]}, "a"], "PUBLISH: options.exclude[0]: Expected `int`, got "),
        ([16, 1, {}, no], "PUBLISH: topic: Expected `str`, got "),
        ([16, 1, {}, "a", no], "PUBLISH: args: must be a list"),
    ):
        with pytest.raises(Violation) as caught:
            READERS[name](written(name, sent))
        assert str(caught.value).startswith(why)


@pytest.mark.parametrize("other", [msgspec.msgpack.Ext(0, b""), msgspec.msgpack.Ext(0, b"\1"), msgspec.msgpack.Ext(1, b"\0")])
def test_other_extensions_of_messagepack_are_not_undefined(other: msgspec.msgpack.Ext) -> None:
    for sent in ([32, 1, {"match": other}, "a"], [1, "realm1", {"roles": {"caller": {}}, "authid": other}]):
        with pytest.raises(Violation):
            READERS["msgpack"](msgspec.msgpack.encode(sent))


@BINARY
def test_a_float_without_a_fraction_is_an_integer_where_there_must_be_one(name: str) -> None:
    large = float(2**53)
    for sent, message in (
        ([16, 1.0, {"exclude": [123.0, large]}, "a"], (1, PublishOptions(exclude=[123, 2**53]), "a")),
        ([34, large, 5.0], (2**53, 5)),
        ([48, 4294967296.0, {"timeout": 50.0}, "a"], (2**32, CallOptions(timeout=50), "a")),
        ([49, large, {}], (2**53, CancelOptions())),
        ([66, 2, large], (2, 2**53)),
        ([70, large, {}], (2**53, YieldOptions())),
    ):
        read = READERS[name](written(name, sent))
        found = tuple(members(read).values())[: len(message)]
        assert found == message
        assert type(found[0]) is int
    published = READERS[name](written(name, [16, 1.0, {}, "a", [2.0]]))
    assert isinstance(published, Publish)
    assert published.args is not None
    assert repr(CODECS[name].value(bytes(published.args))) == "[2.0]"


@pytest.mark.parametrize("sent", [b'[34,1.0,2]', b'[16,1,{"exclude":[2.0]},"a"]', b'[48,1,{"timeout":1e3},"a"]'])
def test_in_json_an_integer_is_one_to_the_letter(sent: bytes) -> None:
    with pytest.raises(Violation, match="Expected `int`, got `float`"):
        READERS["json"](sent)


@EACH
def test_a_role_or_its_features_may_be_null(codec: Codec) -> None:
    roles = {"publisher": None, "caller": {}, "callee": {"features": None}, "mine": 7}
    hello = READERS[codec.name](codec.encode([1, "realm1", {"roles": roles}]))
    assert isinstance(hello, Hello)
    assert Features.announced(hello.details) == Features()
    none: list[dict[str, Any]] = [{"roles": {"callee": None}}, {"roles": {"mine": {}}}, {"roles": None}]
    for details in none:
        with pytest.raises(Violation, match="with a role of the client's"):
            Features.announced(details)


@EACH
@pytest.mark.parametrize(
    "head",
    [[3, {}, "com.reason"], [8, 68, 7, {}, "com.error"], [16, 1, {}, "com.topic"], [48, 4, {}, "com.procedure"], [70, 8, {}]],
)
@pytest.mark.parametrize("payload", [[], [[]], [[1, "two", None]], [[], {"a": 1}], [[{}], {"a": [True], "b": {}}]])
def test_a_payload_stays_encoded(codec: Codec, head: list[Any], payload: list[Any]) -> None:
    message = READERS[codec.name](codec.encode(head + payload))
    assert isinstance(message, Carrier)
    parts = [None if part is None else bytes(part) for part in (message.args, message.kwargs)]
    assert parts == ([codec.encode(part) for part in payload] + [None, None])[:2]


def test_there_is_a_sample_of_every_message() -> None:
    assert {each[0] for each in MESSAGES} == {kind.__struct_config__.tag for kind in AnyMessage.__args__}


TYPE = "the type code is none of a message that clients send"
LIST = "a message is a list that begins with its type code"
SIZE = "too short or too long"


@EACH
@pytest.mark.parametrize(
    ("sent", "why"),
    [
        ({}, LIST),
        ("text", LIST),
        (None, LIST),
        ([], LIST),
        (["16", 1, {}, "a"], LIST),
        ([True, "realm", {}], LIST),
        ([16.0, 1, {}, "a"], LIST),
        ([[16], 1, {}, "a"], LIST),
        ([99], TYPE),
        ([-1], TYPE),
        ([2, 1, {}], TYPE),  # WELCOME is the router's
        ([36, 1, 2, {}], TYPE),
        ([1, "realm"], f"HELLO: {SIZE}"),
        ([1, "realm", {}, 1], f"HELLO: {SIZE}"),
        ([3, {}, "a", [], {}, 1], f"ABORT: {SIZE}"),
        ([16, 1, {}], f"PUBLISH: {SIZE}"),
        ([16, 1, {}, "a", [], {}, 1], f"PUBLISH: {SIZE}"),
        ([34, 1, 2, {}], f"UNSUBSCRIBE: {SIZE}"),
        ([1, 5, {}], "HELLO: realm: Expected `str`, got `int`"),
        ([1, "realm", []], "HELLO: details: Expected `object`, got `array`"),
        ([16, 0, {}, "a"], "PUBLISH: request: Expected `int` >= 1"),
        ([16, -1, {}, "a"], "PUBLISH: request: Expected `int` >= 1"),
        ([16, 2**53 + 1, {}, "a"], "PUBLISH: request: Expected `int` <= 9007199254740992"),
        ([16, 1.5, {}, "a"], "PUBLISH: request: Expected `int`, got `float`"),
        ([16, True, {}, "a"], "PUBLISH: request: Expected `int`, got `bool`"),
        ([16, 1, None, "a"], "PUBLISH: options: Expected `object`, got "),  # null, which is None in MessagePack
        ([16, 1, {"acknowledge": 1}, "a"], "PUBLISH: options.acknowledge: Expected `bool`, got `int`"),
        ([16, 1, {"exclude_me": None, "acknowledge": 1}, "a"], "PUBLISH: options."),
        ([16, 1, {"exclude": [1, None]}, "a"], "PUBLISH: options.exclude[1]: Expected `int`, got "),
        ([16, None, {}, "a"], "PUBLISH: request: Expected `int`, got "),
        ([16, 2.0**53 + 2, {}, "a"], "PUBLISH: request: Expected `int`"),
        ([16, 1e300, {}, "a"], "PUBLISH: request: Expected `int`, got `float`"),
        ([16, 0.0, {}, "a"], "PUBLISH: request: Expected `int`"),
        ([16, 1, {"exclude": [1.5]}, "a"], "PUBLISH: options.exclude[0]: Expected `int`, got `float`"),
        ([16, 1, {"acknowledge": 1.0}, "a"], "PUBLISH: options.acknowledge: Expected `bool`, got `float`"),
        ([48, 1, {"timeout": -1.0}, "a"], "CALL: options.timeout: Expected `int`"),
        ([49, 1], f"CANCEL: {SIZE}"),
        ([16, 1, {"exclude": [1, 0]}, "a"], "PUBLISH: options.exclude[1]: Expected `int` >= 1"),
        ([16, 1, {"exclude_authid": ["a", 1]}, "a"], "PUBLISH: options.exclude_authid[1]: Expected `str`, got `int`"),
        ([16, 1, {"ppt_scheme": 1}, "a"], "PUBLISH: options.ppt_scheme: Expected `str | null`, got `int`"),
        ([32, 1, {"match": "Prefix"}, "a"], "SUBSCRIBE: options.match: is none of those there are"),
        ([48, 1, {"timeout": -1}, "a"], "CALL: options.timeout: Expected `int` >= 0"),
        ([49, 1, {"mode": "soon"}], "CANCEL: options.mode: is none of those there are"),
        ([64, 1, {"invoke": "all"}, "a"], "REGISTER: options.invoke: is none of those there are"),
        ([16, 1, {}, "a", None], "PUBLISH: args: must be a list"),
        ([16, 1, {}, "a", {}], "PUBLISH: args: must be a list"),
        ([16, 1, {}, "a", "text"], "PUBLISH: args: must be a list"),
        ([16, 1, {}, "a", b"transparent"], "PUBLISH: args: must be a list"),
        ([16, 1, {}, "a", 1], "PUBLISH: args: must be a list"),
        ([16, 1, {}, "a", [], None], "PUBLISH: kwargs: must be a map"),
        ([16, 1, {}, "a", [], []], "PUBLISH: kwargs: must be a map"),
        ([70, 1, {}, {}], "YIELD: args: must be a list"),
    ],
)
def test_whoever_sends_something_else_is_told_what_and_why(codec: Codec, sent: Any, why: str) -> None:
    with pytest.raises(Violation) as caught:
        READERS[codec.name](codec.encode(sent))
    assert str(caught.value).startswith(why)


@pytest.mark.parametrize("name", ["msgpack", "cbor"])
def test_the_keys_of_what_a_client_may_say_freely_are_text(name: str) -> None:
    codec = CODECS[name]
    for sent, member in (
        ([1, "realm", {"a": [{1: 2}]}], "HELLO: details"),
        ([5, "", {"a": {b"": 2}}], "AUTHENTICATE: extra"),
        ([8, 68, 1, {"a": {None: 2}}, "a"], "ERROR: details"),
    ):
        with pytest.raises(Violation) as caught:
            READERS[codec.name](codec.encode(sent))
        assert str(caught.value) == f"{member}: the keys of a map must be text"


@EACH
def test_details_are_no_deeper_than_can_be_followed(codec: Codec) -> None:
    bomb: Any = 1
    for _ in range(256):
        bomb = [bomb]
    with pytest.raises(Violation, match=r"deep|depth"):
        READERS[codec.name](codec.encode([1, "realm", {"authextra": bomb}]))


@EACH
def test_a_violation_repeats_nothing_of_what_was_sent(codec: Codec) -> None:
    secret = "hunter2"
    for sent in (
        [5, [secret], {}],
        [5, secret, secret],
        [5, secret, {}, secret],
        [5, secret, {secret: [secret]}, 1],
        [32, 1, {"match": secret}, "a"],
        [secret],
    ):
        with pytest.raises(Violation) as caught:
            READERS[codec.name](codec.encode(sent))
        assert secret not in str(caught.value)
        assert caught.value.__cause__ is None
