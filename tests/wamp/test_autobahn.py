"""Autobahn|Python on Twisted: its sessions do what their users have them do, over each transport and serializer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from autobahn.wamp.cryptobox import KeyRing
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import (
    CallDetails,
    CallOptions,
    CallResult,
    EventDetails,
    PublishOptions,
    RegisterOptions,
    SubscribeOptions,
)
from twisted.internet.defer import CancelledError, Deferred, DeferredQueue
from twisted.internet.task import deferLater

from tests.client import PATIENCE
from tests.wamp.router import Router
from tests.wamp.sessions import Left, Member, Sessions, clock
from tests.wamp.users import USERS, WAYS, User

OPTIONS = RegisterOptions(details_arg="details")
READER = User("ticket", "reader", "reader-ticket")
Way = tuple[str, str]

each_way = pytest.mark.parametrize("way", WAYS, ids="-".join)


@pytest_twisted.async_yield_fixture
async def sessions(router: Router) -> Any:
    made = Sessions(router)
    yield made
    await made.end()


class Heard:
    """The events of a subscription, in order: (args, kwargs, details)."""

    def __init__(self) -> None:
        self._queue: DeferredQueue[tuple[list[Any], dict[str, Any], EventDetails]] = DeferredQueue()

    def __call__(self, *args: Any, details: EventDetails, **kwargs: Any) -> None:
        self._queue.put((list(args), kwargs, details))

    async def next(self) -> tuple[list[Any], dict[str, Any], EventDetails]:
        return await self._queue.get().addTimeout(PATIENCE, clock)

    async def until(self, wanted: Callable[[list[Any]], bool]) -> list[Any]:
        """The arguments of the first event in which they are so."""
        while not wanted(args := (await self.next())[0]):
            pass
        return args

    async def first(self) -> Any:
        """The first argument of the next event."""
        return (await self.next())[0][0]


async def listen(session: Member, topic: str, **options: Any) -> Heard:
    heard = Heard()
    await session.subscribe(heard, topic, SubscribeOptions(details=True, **options))
    return heard


async def tell(session: Member, topic: str, *args: Any, **options: Any) -> int:
    """Publishes and gives the publication id."""
    publication = await session.publish(topic, *args, options=PublishOptions(acknowledge=True, **options))
    return int(publication.id)


async def error_of(call: Deferred[Any]) -> ApplicationError:
    with pytest.raises(ApplicationError) as caught:
        await call.addTimeout(PATIENCE, clock)
    error: ApplicationError = caught.value
    return error


# --- joining ------------------------------------------------------------------------------------------------------------


@each_way
@pytest.mark.parametrize("name", USERS)
@pytest_twisted.ensureDeferred
async def test_each_user_joins_in_each_way(sessions: Sessions, way: Way, name: str) -> None:
    user = USERS[name]
    details = (await sessions(way, user=user)).details
    assert (details.realm, details.authmethod) == ("realm1", user.method)
    assert details.authrole == ("guest" if name == "anonymous" else "user")
    assert details.authid == user.authid or name == "anonymous"


@pytest.mark.parametrize("name", [name for name in USERS if name != "anonymous"])
@pytest_twisted.ensureDeferred
async def test_a_wrong_secret_and_a_wrong_name_let_nobody_in(sessions: Sessions, name: str) -> None:
    user = USERS[name]
    for stranger in (user._replace(secret=user.secret[::-1]), user._replace(authid="nobody")):
        with pytest.raises(Left) as caught:
            await sessions(user=stranger)
        assert caught.value.details.reason == "wamp.error.authentication_failed"


@pytest_twisted.ensureDeferred
async def test_a_realm_that_is_not_there_and_a_role_that_may_not_join(sessions: Sessions) -> None:
    with pytest.raises(Left) as caught:
        await sessions(realm="realm2")
    assert caught.value.details.reason == "wamp.error.no_such_realm"
    with pytest.raises(Left) as caught:
        await sessions(realm="disclosing", user=USERS["ticket"])
    assert caught.value.details.reason == "wamp.error.authorization_denied"


@pytest_twisted.ensureDeferred
async def test_who_leaves_is_answered(sessions: Sessions) -> None:
    session = await sessions()
    session.leave("com.example.enough")
    details = await session.left.addTimeout(PATIENCE, clock)
    assert details.reason == "wamp.close.goodbye_and_out"


# --- publish and subscribe ----------------------------------------------------------------------------------------------


@each_way
@pytest_twisted.ensureDeferred
async def test_events_arrive_whole_and_in_order(sessions: Sessions, uri: str, way: Way) -> None:
    publisher, subscriber = await sessions(way), await sessions(way)
    heard = await listen(subscriber, uri)
    for number in range(20):
        publisher.publish(uri, number, "ä", None, [1.5, {"b": True}], number=number, nested={"deep": [[]]})
    for number in range(20):
        args, kwargs, details = await heard.next()
        assert args == [number, "ä", None, [1.5, {"b": True}]]
        assert kwargs == {"number": number, "nested": {"deep": [[]]}}
        assert (details.publisher, details.publisher_authid) == (None, None)


@each_way
@pytest_twisted.ensureDeferred
async def test_bytes_stay_bytes_whatever_the_subscriber_speaks(sessions: Sessions, uri: str, way: Way) -> None:
    publisher = await sessions(way)
    listeners = [await listen(await sessions(other), uri) for other in WAYS]
    data = bytes(range(256))
    publisher.publish(uri, data, inner=[{"data": data}])
    for heard in listeners:
        args, kwargs, _ = await heard.next()
        assert (args, kwargs) == ([data], {"inner": [{"data": data}]})


@pytest_twisted.ensureDeferred
async def test_a_publisher_hears_itself_only_if_it_wants_to(sessions: Sessions, uri: str) -> None:
    session = await sessions()
    heard = await listen(session, uri)
    await tell(session, uri, "left out")
    await tell(session, uri, "heard", exclude_me=False)
    assert await heard.first() == "heard"


@pytest_twisted.ensureDeferred
async def test_the_acknowledged_publication_is_the_one_that_all_hear(sessions: Sessions, uri: str) -> None:
    publisher = await sessions()
    listeners = [await listen(await sessions(way), uri) for way in WAYS]
    publication = await tell(publisher, uri, 1)
    for heard in listeners:
        assert (await heard.next())[2].publication == publication


LISTS: list[tuple[Callable[[Member], dict[str, Any]], bool]] = [
    (lambda one: {"exclude": [one.details.session]}, False),
    (lambda one: {"exclude_authid": [one.details.authid]}, False),
    (lambda one: {"exclude_authrole": [one.details.authrole]}, False),
    (lambda one: {"eligible": [one.details.session]}, True),
    (lambda one: {"eligible_authid": [one.details.authid]}, True),
    (lambda one: {"eligible_authrole": [one.details.authrole]}, True),
    (lambda one: {"eligible_authrole": [one.details.authrole], "eligible_authid": ["nobody"]}, False),
    (lambda one: {"eligible": [one.details.session], "exclude_authrole": ["user"]}, False),
]


@pytest.mark.parametrize(("options", "hears"), LISTS)
@pytest_twisted.ensureDeferred
async def test_publishers_say_who_hears_it(
    sessions: Sessions, uri: str, options: Callable[[Member], dict[str, Any]], hears: bool
) -> None:
    publisher, one, other = await sessions(), await sessions(user=USERS["ticket"]), await sessions()
    heard, heard_by_other = await listen(one, uri), await listen(other, uri)
    chosen = options(one)
    await tell(publisher, uri, "for some", **chosen)
    await tell(publisher, uri, "for all")
    assert await heard.first() == ("for some" if hears else "for all")
    excludes = all(name.startswith("exclude") for name in chosen)
    assert await heard_by_other.first() == ("for some" if excludes else "for all")


@pytest_twisted.ensureDeferred
async def test_a_realm_discloses_publishers(sessions: Sessions, uri: str) -> None:
    publisher, subscriber = await sessions(realm="disclosing"), await sessions(realm="disclosing")
    heard = await listen(subscriber, uri)
    publisher.publish(uri)
    _, _, details = await heard.next()
    said = (details.publisher, details.publisher_authid, details.publisher_authrole)
    assert said == (publisher.details.session, publisher.details.authid, "guest")


@each_way
@pytest_twisted.ensureDeferred
async def test_patterns_match_by_prefix_and_wildcard_and_say_the_topic(sessions: Sessions, uri: str, way: Way) -> None:
    publisher, subscriber = await sessions(way), await sessions(way)
    by_prefix = await listen(subscriber, f"{uri}.a", match="prefix")
    by_wildcard = await listen(subscriber, f"{uri}..z", match="wildcard")
    exactly = await listen(subscriber, f"{uri}.ab.z")
    for topic in ("b.y", "a", "ab.z", "abc", "c.z", "a.b.z"):
        await tell(publisher, f"{uri}.{topic}", topic)
    heard = [await by_prefix.next() for _ in range(4)]
    assert [(args[0], details.topic) for args, _, details in heard] == [
        (topic, f"{uri}.{topic}") for topic in ("a", "ab.z", "abc", "a.b.z")
    ]
    assert [await by_wildcard.first() for _ in range(2)] == ["ab.z", "c.z"]
    assert await exactly.first() == "ab.z"


@pytest_twisted.ensureDeferred
async def test_who_has_unsubscribed_hears_no_more(sessions: Sessions, uri: str) -> None:
    publisher, subscriber = await sessions(), await sessions()
    heard = Heard()
    kept = await listen(subscriber, f"{uri}.end")
    subscription = await subscriber.subscribe(heard, uri, SubscribeOptions(details=True))
    await tell(publisher, uri, 1)
    assert await heard.first() == 1
    await subscription.unsubscribe()
    await tell(publisher, uri, 2)
    await tell(publisher, f"{uri}.end", 3)
    assert await kept.first() == 3
    again = await listen(subscriber, uri)
    await tell(publisher, uri, 4)
    assert await again.first() == 4


@pytest_twisted.ensureDeferred
async def test_what_is_reserved_or_not_granted_is_refused(sessions: Sessions) -> None:
    guest, reader = await sessions(), await sessions(user=READER)
    for refusal in (guest.publish("wamp.mine", options=PublishOptions(acknowledge=True)), guest.register(print, "wamp.mine")):
        assert (await error_of(refusal)).error == "wamp.error.invalid_uri"
    await reader.subscribe(print, "com.example.open.door")
    refused = [
        reader.subscribe(print, "com.example.closed.door"),
        reader.subscribe(print, "com.example", SubscribeOptions(match="prefix")),
        reader.publish("com.example.open.door", options=PublishOptions(acknowledge=True)),
        reader.call("com.example.open.procedure"),
        reader.register(print, "com.example.open.procedure"),
    ]
    for refusal in refused:
        assert (await error_of(refusal)).error == "wamp.error.not_authorized"


# --- call and execute ---------------------------------------------------------------------------------------------------


@each_way
@pytest_twisted.ensureDeferred
async def test_calls_carry_arguments_and_results(sessions: Sessions, uri: str, way: Way) -> None:
    callee, caller = await sessions(way), await sessions(way)
    await callee.register(CallResult, f"{uri}.echo")
    await callee.register(lambda a, b=2: a + b, f"{uri}.add")
    await callee.register(lambda: None, f"{uri}.nothing")
    result = await caller.call(f"{uri}.echo", 1, "ä", b"\0\xff", x=[None], y={"z": 2.5})
    assert (list(result.results), result.kwresults) == ([1, "ä", b"\0\xff"], {"x": [None], "y": {"z": 2.5}})
    assert await caller.call(f"{uri}.add", 40) == 42
    assert await caller.call(f"{uri}.add", 40, b=60) == 100
    assert await caller.call(f"{uri}.nothing") is None
    assert await callee.call(f"{uri}.add", 1) == 3  # of one's own


@each_way
@pytest_twisted.ensureDeferred
async def test_errors_come_back_as_they_were_raised(sessions: Sessions, uri: str, way: Way) -> None:
    callee, caller = await sessions(way), await sessions(way)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise ApplicationError(f"{uri}.no", *args, **kwargs)

    def break_down() -> None:
        raise ValueError("of its own")

    await callee.register(fail, f"{uri}.fail")
    await callee.register(break_down, f"{uri}.break")
    error = await error_of(caller.call(f"{uri}.fail", 1, "two", three=b"3"))
    assert (error.error, list(error.args), error.kwargs) == (f"{uri}.no", [1, "two"], {"three": b"3"})
    error = await error_of(caller.call(f"{uri}.break"))
    assert (error.error, error.args[0]) == ("wamp.error.runtime_error", "of its own")
    assert (await error_of(caller.call(f"{uri}.unheard"))).error == "wamp.error.no_such_procedure"


@each_way
@pytest_twisted.ensureDeferred
async def test_progress_arrives_before_the_result(sessions: Sessions, uri: str, way: Way) -> None:
    callee, caller = await sessions(way), await sessions(way)

    def count(until: int, details: Any) -> int:
        for number in range(until):
            if details.progress:
                details.progress(number, square=number * number)
        return until

    await callee.register(count, uri, OPTIONS)
    progress: list[tuple[Any, ...]] = []
    options = CallOptions(on_progress=lambda *args, **kwargs: progress.append((*args, kwargs)))
    assert await caller.call(uri, 5, options=options) == 5
    assert progress == [(number, {"square": number * number}) for number in range(5)]
    assert await caller.call(uri, 5) == 5
    assert len(progress) == 5


@each_way
@pytest_twisted.ensureDeferred
async def test_a_call_that_is_cancelled_ends_for_both(sessions: Sessions, uri: str, way: Way) -> None:
    callee, caller = await sessions(way), await sessions(way)
    begun, interrupted = Deferred[None](), Deferred[None]()

    def work() -> Deferred[None]:
        begun.callback(None)
        return Deferred(lambda _: interrupted.callback(None))

    await callee.register(work, uri)
    call = caller.call(uri)
    await begun.addTimeout(PATIENCE, clock)
    call.cancel()
    with pytest.raises((CancelledError, ApplicationError)):
        await call
    await interrupted.addTimeout(PATIENCE, clock)


@each_way
@pytest_twisted.ensureDeferred
async def test_a_call_that_takes_too_long_times_out(sessions: Sessions, uri: str, way: Way) -> None:
    callee, caller = await sessions(way), await sessions(way)
    interrupted = Deferred[None]()
    await callee.register(lambda: Deferred(lambda _: interrupted.callback(None)), uri)
    error = await error_of(caller.call(uri, options=CallOptions(timeout=50)))
    assert error.error == "wamp.error.timeout"
    await interrupted.addTimeout(PATIENCE, clock)


@pytest_twisted.ensureDeferred
async def test_a_call_with_progress_may_take_longer_than_its_timeout(sessions: Sessions, uri: str) -> None:
    """The timeout is for each gap between results. The gaps here are less than half of it, for a machine that is busy."""
    callee, caller = await sessions(), await sessions()

    async def work(details: Any) -> str:
        for part in range(3):
            await deferLater(clock, 0.6)
            details.progress(part)
        return "done"

    await callee.register(work, uri, OPTIONS)
    parts: list[int] = []
    assert await caller.call(uri, options=CallOptions(timeout=1500, on_progress=parts.append)) == "done"
    assert parts == [0, 1, 2]


@pytest_twisted.ensureDeferred
async def test_who_was_executing_and_leaves_ends_the_call(sessions: Sessions, uri: str) -> None:
    callee, caller = await sessions(), await sessions()
    begun = Deferred[None]()

    def work() -> Deferred[None]:
        begun.callback(None)
        return Deferred()

    await callee.register(work, uri)
    call = caller.call(uri)
    await begun.addTimeout(PATIENCE, clock)
    callee.leave()
    assert (await error_of(call)).error == "wamp.error.canceled"
    assert (await error_of(caller.call(uri))).error == "wamp.error.no_such_procedure"


@pytest_twisted.ensureDeferred
async def test_procedures_by_pattern_give_way_to_those_that_match_better(sessions: Sessions, uri: str) -> None:
    callee, caller = await sessions(), await sessions()

    def named(name: str) -> Callable[..., list[str]]:
        return lambda details: [name, details.procedure]

    registrations = {
        "exact": f"{uri}.a.b.c",
        "prefix": f"{uri}.a.b",
        "shorter prefix": f"{uri}.a",
        "wildcard": f"{uri}..x.c",
        "later wildcard": f"{uri}..x.",
    }
    for name, procedure in registrations.items():
        match = name.split()[-1]
        await callee.register(named(name), procedure, RegisterOptions(match=match, details_arg="details"))
    calls = {
        "a.b.c": "exact",
        "a.b.d": "prefix",
        "a.bc": "prefix",
        "a.c": "shorter prefix",
        "z.x.c": "wildcard",
        "z.x.d": "later wildcard",
    }
    for called, name in calls.items():
        chosen, procedure = await caller.call(f"{uri}.{called}")
        assert (chosen, procedure) == (name, f"{uri}.{called}")


INVOKED = {"roundrobin": [0, 1, 2, 0, 1, 2], "first": [0] * 6, "last": [2] * 6}


@pytest.mark.parametrize("invoke", [*INVOKED, "random"])
@pytest_twisted.ensureDeferred
async def test_callees_share_a_procedure(sessions: Sessions, uri: str, invoke: str) -> None:
    caller = await sessions()
    for number in range(3):
        callee = await sessions()
        await callee.register(lambda number=number: number, uri, RegisterOptions(invoke=invoke))
    chosen = [await caller.call(uri) for _ in range(6)]
    assert set(chosen) <= {0, 1, 2} if invoke == "random" else chosen == INVOKED[invoke]
    stranger = await sessions()
    for other in {"single", "first", "last"} - {invoke}:
        refusal = stranger.register(print, uri, RegisterOptions(invoke=other))
        error = (await error_of(refusal)).error
        assert error == "wamp.error.procedure_exists_with_different_invocation_policy"


@pytest_twisted.ensureDeferred
async def test_a_procedure_of_one_is_free_again_when_it_is_given_up(sessions: Sessions, uri: str) -> None:
    first, second = await sessions(), await sessions()
    registration = await first.register(lambda: 1, uri)
    assert (await error_of(second.register(print, uri))).error == "wamp.error.procedure_already_exists"
    await registration.unregister()
    await second.register(lambda: 2, uri)
    assert await first.call(uri) == 2


@pytest_twisted.ensureDeferred
async def test_a_realm_discloses_callers(sessions: Sessions, uri: str) -> None:
    callee, caller = await sessions(realm="disclosing"), await sessions(realm="disclosing")
    await callee.register(lambda details: [details.caller, details.caller_authid, details.caller_authrole], uri, OPTIONS)
    assert await caller.call(uri) == [caller.details.session, caller.details.authid, "guest"]


@pytest_twisted.ensureDeferred
async def test_realms_know_nothing_of_each_other(sessions: Sessions, uri: str) -> None:
    here, there = await sessions(realm="realm1"), await sessions(realm="crossbardemo")
    heard = await listen(there, uri)
    await here.register(lambda: "here", uri)
    await tell(here, uri, "here")
    assert (await error_of(there.call(uri))).error == "wamp.error.no_such_procedure"
    await tell(there, uri, "there", exclude_me=False)
    assert await heard.first() == "there"


# --- the meta API -------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_sessions_are_counted_listed_described_and_ended(sessions: Sessions, router: Router) -> None:
    watcher = await sessions(user=User("ticket", "admin", router.admin))
    joins, leaves = await listen(watcher, "wamp.session.on_join"), await listen(watcher, "wamp.session.on_leave")
    before = await watcher.call("wamp.session.count")
    session = await sessions(user=USERS["ticket"])
    number = session.details.session
    args, _, _ = await joins.next()
    assert (args[0]["session"], args[0]["authid"], args[0]["authrole"]) == (number, "ticket-user", "user")
    assert await watcher.call("wamp.session.count") == before + 1
    assert await watcher.call("wamp.session.count", ["user"]) >= 1
    assert number in await watcher.call("wamp.session.list")
    assert number not in await watcher.call("wamp.session.list", ["guest"])
    described = await watcher.call("wamp.session.get", number)
    assert (described["session"], described["authid"], described["authmethod"]) == (number, "ticket-user", "ticket")
    killing = {"reason": "com.example.enough", "message": "Enough"}
    refusal = session.call("wamp.session.kill", watcher.details.session, **killing)
    assert (await error_of(refusal)).error == "wamp.error.not_authorized"
    await watcher.call("wamp.session.kill", number, **killing)
    details = await session.left.addTimeout(PATIENCE, clock)
    assert (details.reason, details.message) == ("com.example.enough", "Enough")
    args, _, _ = await leaves.next()
    assert args == [number, "ticket-user", "user"]
    assert (await error_of(watcher.call("wamp.session.get", number))).error == "wamp.error.no_such_session"


@pytest_twisted.ensureDeferred
async def test_subscriptions_are_listed_described_and_told_of(sessions: Sessions, uri: str) -> None:
    watcher, session = await sessions(), await sessions()
    names = ("on_unsubscribe", "on_delete", "on_create", "on_subscribe")
    told = {name: await listen(watcher, f"wamp.subscription.{name}") for name in names}
    subscription = await session.subscribe(print, f"{uri}.", SubscribeOptions(match="prefix"))
    number = session.details.session
    # The watcher's own subscriptions, to these very topics, are told of as well.
    args = await told["on_create"].until(lambda args: args[0] == number)
    assert (args[1]["uri"], args[1]["match"]) == (f"{uri}.", "prefix")
    assert await told["on_subscribe"].until(lambda args: args[0] == number) == [number, subscription.id]
    assert await watcher.call("wamp.subscription.lookup", f"{uri}.", {"match": "prefix"}) == subscription.id
    assert await watcher.call("wamp.subscription.match", f"{uri}.x") == [subscription.id]
    assert subscription.id in (await watcher.call("wamp.subscription.list"))["prefix"]
    described = await watcher.call("wamp.subscription.get", subscription.id)
    assert (described["id"], described["uri"], described["match"]) == (subscription.id, f"{uri}.", "prefix")
    assert await watcher.call("wamp.subscription.list_subscribers", subscription.id) == [number]
    assert await watcher.call("wamp.subscription.count_subscribers", subscription.id) == 1
    await subscription.unsubscribe()
    assert (await told["on_unsubscribe"].next())[0] == [number, subscription.id]
    assert (await told["on_delete"].next())[0][:2] == [number, subscription.id]
    gone = await error_of(watcher.call("wamp.subscription.get", subscription.id))
    assert gone.error == "wamp.error.no_such_subscription"


@pytest_twisted.ensureDeferred
async def test_registrations_are_listed_described_and_told_of(sessions: Sessions, uri: str) -> None:
    watcher, session = await sessions(), await sessions()
    names = ("on_create", "on_register", "on_unregister", "on_delete")
    told = {name: await listen(watcher, f"wamp.registration.{name}") for name in names}
    registration = await session.register(print, uri, RegisterOptions(invoke="roundrobin"))
    number = session.details.session
    args, _, _ = await told["on_create"].next()
    assert (args[0], args[1]["uri"], args[1]["invoke"]) == (number, uri, "roundrobin")
    assert (await told["on_register"].next())[0] == [number, registration.id]
    assert await watcher.call("wamp.registration.lookup", uri) == registration.id
    assert await watcher.call("wamp.registration.match", uri) == registration.id
    assert registration.id in (await watcher.call("wamp.registration.list"))["exact"]
    described = await watcher.call("wamp.registration.get", registration.id)
    assert (described["id"], described["uri"], described["invoke"]) == (registration.id, uri, "roundrobin")
    assert await watcher.call("wamp.registration.list_callees", registration.id) == [number]
    assert await watcher.call("wamp.registration.count_callees", registration.id) == 1
    session.leave()
    assert (await told["on_unregister"].next())[0] == [number, registration.id]
    assert (await told["on_delete"].next())[0][:2] == [number, registration.id]
    assert await watcher.call("wamp.registration.lookup", uri) is None


@pytest_twisted.ensureDeferred
async def test_testaments_are_published_for_those_who_vanish(sessions: Sessions, uri: str) -> None:
    watcher, dying = await sessions(), await sessions()
    heard = await listen(watcher, uri)
    await dying.call("wamp.session.add_testament", uri, ["forgotten"], {})
    await dying.call("wamp.session.flush_testaments")
    await dying.call("wamp.session.add_testament", uri, ["remembered"], {"how": "suddenly"})
    dying._transport.abort()
    args, kwargs, _ = await heard.next()
    assert (args, kwargs) == (["remembered"], {"how": "suddenly"})


# --- encrypted payloads


@each_way
@pytest_twisted.ensureDeferred
async def test_payloads_that_autobahns_set_payload_codec_encrypts_reach_those_with_the_key(
    way: Way, sessions: Sessions, uri: str
) -> None:
    """Cryptobox, from one end to the other: EVENT, INVOCATION, RESULT with progress and ERROR."""
    keys = KeyRing()
    key, _ = keys.generate_key()
    one, other, stranger = await sessions(way), await sessions(("ws", "json")), await sessions(way)
    for session in (one, other):
        session.set_payload_codec(KeyRing(default_key=key))
    heard = await listen(other, uri)
    unencrypted = await listen(stranger, uri)
    await tell(one, uri, 1, "ä", {"deep": [None]})
    args, kwargs, details = await heard.next()
    assert (args, kwargs, details.enc_algo) == ([1, "ä", {"deep": [None]}], {}, "cryptobox")

    def execute(*args: Any, details: CallDetails, **kwargs: Any) -> CallResult:
        assert details.enc_algo == "cryptobox"
        if details.progress is not None:
            details.progress("half")
        if args == ("fail",):
            raise ApplicationError(f"{uri}.no", "because", code=7)
        return CallResult(*args, **kwargs)

    await other.register(execute, f"{uri}.execute", OPTIONS)
    result = await one.call(f"{uri}.execute", 1, "two", three=[3])
    assert (result.results, result.kwresults) == ((1, "two"), {"three": [3]})
    progress: list[Any] = []
    await one.call(f"{uri}.execute", 1, options=CallOptions(on_progress=progress.append))
    assert progress == ["half"]
    error = await error_of(one.call(f"{uri}.execute", "fail"))
    assert (error.error, error.args, error.kwargs) == (f"{uri}.no", ("because",), {"code": 7})
    await tell(stranger, uri, "plain")
    assert await heard.first() == "plain"
    one.set_payload_codec(None)
    await tell(one, uri, "plain too")
    assert await unencrypted.first() == "plain too", "what it cannot decrypt is not for it"
