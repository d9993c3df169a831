"""The session meta API and testaments over real sockets: arguments as clients of other languages write them."""

from __future__ import annotations

import gc
import tracemalloc

import pytest
import pytest_twisted

from tests.protocols.wamp.rules.conftest import Places
from tests.wamp.peer import CALL, SERIALIZERS, Refused


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("serializer", SERIALIZERS)
async def test_ids_as_floats_are_accepted_by_meta_procedures_and_in_lists_of_receivers(serializer: str, places: Places) -> None:
    place = await places()
    admin, victim = await place.join(serializer=serializer), await place.join()
    session = float(victim.session)
    assert session == victim.session
    assert (await admin.call("wamp.session.get", [session])).args[0]["session"] == victim.session
    subscription = await victim.subscribe("com.topic")
    leaver = await place.join(serializer=serializer)
    await leaver.call("wamp.session.add_testament", ["com.topic", ["left"]], {"publish_options": {"eligible": [session]}})
    leaver.drop()
    assert (await victim.event()).args == ["left"]
    if serializer != "json":  # in JSON no client writes an integer as a float
        await admin.publish("com.topic", ["not for it"], exclude=[session])
        await admin.publish("com.topic", ["nor this"], eligible=[float(admin.session)])
        await admin.publish("com.topic", ["for it"], eligible=[session], exclude=[float(admin.session)])
        assert (await victim.event()).args == ["for it"]
    await admin.call("wamp.subscription.remove_subscriber", [float(subscription), session])
    assert (await admin.call("wamp.subscription.lookup", ["com.topic"])).args == [None]
    await admin.call("wamp.session.kill", [session])
    assert (await victim.ended()).code == 4502


@pytest_twisted.ensureDeferred
async def test_flush_testaments_drops_those_of_one_scope_and_detached_ones_come_first(places: Places) -> None:
    place = await places()
    hearer = await place.join()
    await hearer.subscribe("com.left")
    for flushed, heard in ((None, ["detached", "destroyed"]), ("detached", ["destroyed"]), ("destroyed", ["detached"])):
        leaver = await place.join()
        for scope in ("destroyed", "detached"):
            await leaver.call("wamp.session.add_testament", ["com.left", [scope]], {"scope": scope})
        if flushed:
            await leaver.call("wamp.session.flush_testaments", [], {"scope": flushed})
        leaver.drop()
        assert [(await hearer.event()).args[0] for _ in heard] == heard


@pytest_twisted.ensureDeferred
async def test_a_kill_with_a_bad_reason_is_invalid_uri(places: Places) -> None:
    place = await places()
    admin, victim = await place.join(), await place.join()
    with pytest.raises(Refused, match=r"wamp\.error\.invalid_uri"):
        await admin.call("wamp.session.kill", [victim.session], {"reason": "because I can"})
    await victim.subscribe("com.topic")


@pytest_twisted.ensureDeferred
async def test_an_error_with_any_loose_uri_reaches_the_caller(places: Places) -> None:
    place = await places()
    caller, callee = await place.join(), await place.join()
    await callee.register("com.procedure")
    for uri in ("com.error.*", "com.error." + "x" * 300):
        request = caller.begin("com.procedure")
        callee.fail(await callee.invocation(), uri)
        with pytest.raises(Refused) as refused:
            await caller._reply(CALL, 0, request)
        assert refused.value.uri == uri


@pytest_twisted.ensureDeferred
async def test_matches_for_new_texts_leave_nothing_behind_and_counts_need_no_walk(places: Places) -> None:
    """`wamp.registration.match` on new texts of any length, and what is counted of sessions and subscribers."""
    place = await places()
    caller, callee = await place.join(), await place.join()
    prefix = await callee.register("com.", match="prefix")
    subscription = await callee.subscribe("com.topic")
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(40):
            for text in (f"com.{number:050000}", f"com.x {number:050000}", f"{number:05000}." * 10):
                assert (await caller.call("wamp.registration.match", [text])).args == [None]
                assert (await caller.call("wamp.subscription.match", [text])).args == [None]
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < 1 << 20, "of 12 MB"
    assert (await caller.call("wamp.registration.match", ["com.procedure"])).args == [prefix]
    assert (await caller.call("wamp.subscription.match", ["com.topic"])).args == [[subscription]]
    assert (await caller.call("wamp.session.count", [])).args == [2]
    assert (await caller.call("wamp.session.count", [["nobody's role"]])).args == [0]
    assert (await caller.call("wamp.subscription.count_subscribers", [subscription])).args == [1]
