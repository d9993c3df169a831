"""What every store must do, whoever wrote it.

Runs over the built-in ones, and with `NEXUS_TEST_STORE=URL` over that one too: an empty store which outlives a restart.
"""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from zope.interface.verify import verifyObject

from nexus_tw.interfaces.plugins import IOnce, IRevoked, IStore, ITallies, Sample, Tally
from nexus_tw.model.errors import NexusError
from nexus_tw.store import open_store

FOREIGN = os.environ.get("NEXUS_TEST_STORE", "")
FOREVER = 2**53
KINDS = ["sqlite", "memory", *(["foreign"] if FOREIGN else [])]


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {"sqlite": f"sqlite:{tmp_path}/new/nexus.db", "memory": "sqlite::memory:", "foreign": FOREIGN}[request.param]


@pytest_twisted.async_yield_fixture
async def store(url: str) -> AsyncIterator[IStore]:
    opened = open_store(url, reactor)
    await opened.start()
    await opened.prune(FOREVER)
    yield opened
    await opened.stop()


def rows(agent_id: str, *timestamps: int) -> list[Sample]:
    return [Sample(agent_id, timestamp, b'{"cpu":%d}' % timestamp) for timestamp in timestamps]


T = TypeVar("T")


def begin(awaitable: Awaitable[T]) -> Deferred[T]:
    """Lets it run while the test goes on."""

    async def wait() -> T:
        return await awaitable

    return Deferred.fromCoroutine(wait())


@pytest_twisted.ensureDeferred
async def test_it_provides_the_interface(store: IStore) -> None:
    assert verifyObject(IStore, store)


@pytest_twisted.ensureDeferred
async def test_what_was_committed_comes_back_oldest_first(store: IStore) -> None:
    await store.commit(rows("a", 3, 1))
    await store.commit(rows("a", 2))
    assert await store.samples("a", 0, FOREVER, 10) == rows("a", 1, 2, 3)


@pytest_twisted.ensureDeferred
async def test_metrics_come_back_as_the_bytes_that_were_given(store: IStore) -> None:
    kept = [
        Sample("agénte.β.\N{ROCKET}", number, metrics)
        for number, metrics in enumerate(
            (
                b'{"cpu":1.0,"n":1e3}',
                b' { "spaced" :\n\t1 } ',
                '{"name":"\N{ROCKET} é"}'.encode(),
                rb'{"escaped":"\u0000\u2028\"\\ \ud83d\ude80"}',
                b'{"big":18446744073709551615,"small":-9223372036854775808,"true":true}',
                b'{"quote\'":"\'); DROP TABLE samples;--"}',
                b'{"long":"%b"}' % (b"x" * 60000),
            )
        )
    ]
    await store.commit(kept)
    assert await store.samples(kept[0].agent_id, 0, FOREVER, 100) == kept


@pytest_twisted.ensureDeferred
async def test_a_range_includes_its_beginning_and_not_its_end(store: IStore) -> None:
    await store.commit(rows("a", 10, 20, 30, 40))
    assert await store.samples("a", 20, 40, 10) == rows("a", 20, 30)


@pytest_twisted.ensureDeferred
async def test_a_limit_keeps_the_oldest(store: IStore) -> None:
    await store.commit(rows("a", *range(10)))
    assert await store.samples("a", 4, FOREVER, 3) == rows("a", 4, 5, 6)
    assert await store.samples("a", 0, FOREVER, 0) == []


@pytest_twisted.ensureDeferred
async def test_samples_of_the_same_agent_and_time_are_all_kept(store: IStore) -> None:
    same = [Sample("a", 5, b'{"n":1}'), Sample("a", 5, b'{"n":2}'), Sample("a", 5, b'{"n":2}')]
    await store.commit(same)
    await store.commit(same[:1])
    assert sorted(await store.samples("a", 5, 6, 10)) == sorted([*same, same[0]])


@pytest_twisted.ensureDeferred
async def test_agents_are_kept_apart_by_their_exact_name(store: IStore) -> None:
    names = ["a", "A", "a.b", "ab", "1", "1.0"]
    await store.commit([Sample(name, 1, b'{"n":%d}' % number) for number, name in enumerate(names)])
    for number, name in enumerate(names):
        assert await store.samples(name, 0, FOREVER, 10) == [Sample(name, 1, b'{"n":%d}' % number)]
    assert await store.samples("nobody", 0, FOREVER, 10) == []


@pytest_twisted.ensureDeferred
async def test_times_of_the_whole_range_are_kept(store: IStore) -> None:
    await store.commit(rows("a", 0, 253_402_300_799_999))
    assert await store.samples("a", 0, FOREVER, 10) == rows("a", 0, 253_402_300_799_999)


@pytest_twisted.ensureDeferred
async def test_a_large_batch_is_one_commit(store: IStore) -> None:
    await store.commit([Sample(f"agent-{number % 500}", number, b'{"n":1}') for number in range(20_000)])
    assert len(await store.samples("agent-7", 0, FOREVER, 1000)) == 40


@pytest_twisted.ensureDeferred
async def test_an_empty_batch_is_no_error(store: IStore) -> None:
    await store.commit([])
    assert await store.samples("a", 0, FOREVER, 10) == []


@pytest_twisted.ensureDeferred
async def test_answers_come_in_the_reactor_thread(store: IStore) -> None:
    await store.commit(rows("a", 1))
    assert threading.current_thread() is threading.main_thread()
    await store.samples("a", 0, 2, 1)
    assert threading.current_thread() is threading.main_thread()


@pytest_twisted.ensureDeferred
async def test_pruning_removes_what_is_older_and_nothing_else(store: IStore) -> None:
    await store.commit([*rows("old", 1, 2, 3), *rows("both", 9, 10, 11), *rows("new", 10)])
    assert await store.prune(10) == 4
    assert await store.samples("old", 0, FOREVER, 10) == []
    assert await store.samples("both", 0, FOREVER, 10) == rows("both", 10, 11)
    assert await store.samples("new", 0, FOREVER, 10) == rows("new", 10)
    assert await store.prune(10) == 0


@pytest_twisted.ensureDeferred
async def test_an_agent_of_which_nothing_was_left_can_store_again(store: IStore) -> None:
    await store.commit(rows("a", 1))
    await store.prune(10)
    await store.commit(rows("b", 11))
    await store.commit(rows("a", 12))
    assert await store.samples("a", 0, FOREVER, 10) == rows("a", 12)
    assert await store.samples("b", 0, FOREVER, 10) == rows("b", 11)


@pytest_twisted.ensureDeferred
async def test_a_commit_does_not_wait_for_the_end_of_a_long_pruning(store: IStore) -> None:
    await store.commit([Sample(f"agent-{number % 50}", number, b'{"n":1}') for number in range(30_000)])
    order: list[str] = []
    pruning = begin(store.prune(FOREVER)).addCallback(lambda _: order.append("prune"))
    committing = begin(store.commit(rows("late", FOREVER))).addCallback(lambda _: order.append("commit"))
    await gatherResults([pruning, committing])
    assert order == ["commit", "prune"]
    assert len(await store.samples("late", 0, FOREVER + 1, 10)) == 1


@pytest_twisted.ensureDeferred
async def test_a_commit_under_way_is_finished_before_the_store_closes(url: str) -> None:
    store = open_store(url, reactor)
    await store.start()
    committing: Deferred[None] = begin(store.commit(rows("stopping", *range(1000))))
    await store.stop()
    await committing
    if url != "sqlite::memory:":
        again = open_store(url, reactor)
        await again.start()
        assert await again.samples("stopping", 0, FOREVER, 1000) == rows("stopping", *range(1000))
        await again.stop()


@pytest_twisted.ensureDeferred
async def test_a_closed_store_says_so_and_closes_only_once(store: IStore) -> None:
    await store.stop()
    await store.stop()
    for attempt in (store.commit(rows("a", 1)), store.samples("a", 0, 1, 1)):
        with pytest.raises(NexusError) as caught:
            await attempt
        assert caught.value.code == "store_unavailable"


# --- samples with ids, where the store keeps them


@pytest.fixture
def once(store: IStore) -> IStore:
    if not IOnce.providedBy(store):
        pytest.skip("it keeps no ids")
    assert verifyObject(IOnce, store)
    return store


@pytest_twisted.ensureDeferred
async def test_a_sample_with_an_id_is_stored_once_for_its_agent(once: Any) -> None:
    assert list(await once.commit_once(rows("a", 1, 2), ["x", "\u00e9 \"'"])) == []
    assert list(await once.commit_once(rows("a", 2, 3, 1), ["\u00e9 \"'", "new", "x"])) == [0, 2]
    assert list(await once.commit_once(rows("b", 1), ["x"])) == []
    assert await once.samples("a", 0, FOREVER, 10) == rows("a", 1, 2, 3)
    assert await once.samples("b", 0, FOREVER, 10) == rows("b", 1)


@pytest_twisted.ensureDeferred
async def test_of_samples_with_one_id_in_one_commit_the_first_is_stored(once: Any) -> None:
    samples = [*rows("a", 1, 2), *rows("b", 3), *rows("a", 4, 5)]
    assert list(await once.commit_once(samples, ["x", "x", "x", None, "x"])) == [1, 4]
    assert await once.samples("a", 0, FOREVER, 10) == rows("a", 1, 4)
    assert await once.samples("b", 0, FOREVER, 10) == rows("b", 3)


@pytest_twisted.ensureDeferred
async def test_samples_without_an_id_are_stored_as_often_as_they_come(once: Any) -> None:
    for _ in range(2):
        assert list(await once.commit_once(rows("a", 1, 1), [None, None])) == []
    await once.commit(rows("a", 1))
    assert len(await once.samples("a", 0, FOREVER, 10)) == 5


@pytest_twisted.ensureDeferred
async def test_many_ids_are_told_apart(once: Any) -> None:
    many = range(2500)
    ids = [f"id-{number}" for number in many]
    await once.commit_once(rows("a", *many[::2]), ids[::2])
    assert list(await once.commit_once(rows("a", *many), ids)) == list(many[::2])
    assert await once.samples("a", 0, FOREVER, 10000) == rows("a", *many)


@pytest_twisted.ensureDeferred
async def test_an_id_goes_with_its_sample(once: Any) -> None:
    await once.commit_once(rows("a", 1, 5), ["x", "y"])
    assert await once.prune(3) == 1
    assert list(await once.commit_once(rows("a", 6, 7), ["x", "y"])) == [1]
    assert await once.samples("a", 0, FOREVER, 10) == rows("a", 5, 6)


# --- counts that outlive a restart, where the store provides them


@pytest.fixture
def counting(store: IStore) -> IStore:
    if not ITallies.providedBy(store):
        pytest.skip("it keeps no counts")
    assert verifyObject(ITallies, store)
    return store


@pytest_twisted.ensureDeferred
async def test_counts_of_the_same_holder_and_beginning_are_added(counting: Any) -> None:
    await counting.tally([Tally("subject a", 1, 10), Tally("subject b\x00\u00e9", 1, 5)])
    await counting.tally([Tally("subject a", 1, -3), Tally("subject a", 2, 4), Tally("subject a", 2, 1)])
    await counting.tally([])
    assert sorted(await counting.tallies(0, 10)) == [
        Tally("subject a", 1, 7),
        Tally("subject a", 2, 5),
        Tally("subject b\x00\u00e9", 1, 5),
    ]


@pytest_twisted.ensureDeferred
async def test_counts_come_back_from_a_time_on_of_those_that_have_most_until_they_are_pruned(counting: Any) -> None:
    await counting.tally([Tally("a", 1, 100), Tally("a", 5, 1), Tally("b", 5, 7), Tally("b", 6, 7), Tally("c", 5, 8)])
    assert sorted(await counting.tallies(5, 2)) == [Tally("b", 5, 7), Tally("b", 6, 7), Tally("c", 5, 8)]
    await counting.prune(6)
    assert await counting.tallies(0, 10) == [Tally("b", 6, 7)]


# --- revocations that outlive a restart, where the store keeps them


@pytest_twisted.ensureDeferred
async def test_revocations_are_kept_replaced_and_removed_by_their_keys(store: IStore, url: str) -> None:
    if not IRevoked.providedBy(store):
        pytest.skip("it keeps no revocations")
    keeper: Any = store
    assert verifyObject(IRevoked, keeper)
    assert list(await keeper.revoked()) == []
    for key, record in (("jti:a", b"1"), ("subject:\u00e4\0", b"\xff2"), ("jti:a", b"3"), ("jti:b", b"4")):
        await keeper.revoke(key, record)
    assert sorted(await keeper.revoked()) == [b"3", b"4", b"\xff2"]
    await keeper.unrevoke(["jti:b", "never", "subject:\u00e4\0"])
    assert list(await keeper.revoked()) == [b"3"]
    if "memory" not in url:
        await keeper.stop()
        again: Any = open_store(url, reactor)
        await again.start()
        assert list(await again.revoked()) == [b"3"]
        await again.unrevoke(["jti:a"])
        await again.stop()
        await keeper.start()
