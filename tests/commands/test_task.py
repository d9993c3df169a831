from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from weakref import ref

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from twisted.internet.task import Clock

from nexus_tw.commands import book as books
from nexus_tw.commands.book import DAY, CommandBook
from nexus_tw.commands.outcomes import Failure
from nexus_tw.commands.states import MOVES, State
from nexus_tw.commands.task import MAX_TARGETS, MAX_WAITERS, MAX_WAITERS_EACH, CommandRecord, Execution, digest_of, targets_of
from nexus_tw.model.commands import NULL, CommandRequest
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Limits
from nexus_tw.protocols.native import commands as native
from tests.recording import RecordingPeer, RecordingReply

BIG = Raw(b'"' + b"x" * (1024 * 1024) + b'"')


def make(command_id: str = "c", subject: str = "s", target: str | list[str] | None = None, **more: object) -> CommandRecord:
    request = CommandRequest(command="deploy", target=target, **more)  # type: ignore[arg-type]
    return CommandRecord(command_id, Principal(subject, "r"), 1, request, targets_of(target), b"", now=0.0)


def settle(book: CommandBook, command: CommandRecord, result: Raw = NULL) -> None:
    """Ends a command with that result, as `Commands` does."""
    (execution,) = command.executions
    execution.move(State.SENT)
    book.settle(execution, result)
    execution.move(State.COMPLETED)
    book.ended(command)
    command.end(State.COMPLETED, None)


# --- states


def test_a_final_state_is_left_by_nothing() -> None:
    final = {State.COMPLETED, State.FAILED, State.CANCELLED, State.EXPIRED}
    assert {state for state, following in MOVES.items() if not following} == final
    for state in final:
        execution = make().executions[0]
        execution.state = state
        assert execution.ended
        for following in State:
            with pytest.raises(ValueError, match=f"{state} cannot become {following}"):
                execution.move(following)


def test_every_state_is_in_the_table_and_can_be_reached() -> None:
    assert set(MOVES) == set(State)
    reached = {State.NEW}.union(*MOVES.values())
    assert reached == set(State)


def test_nothing_is_expired_that_somebody_had_in_hand() -> None:
    assert [state for state, following in MOVES.items() if State.EXPIRED in following] == [State.QUEUED]


# --- targets


def test_targets_are_each_taken_once_in_their_order() -> None:
    assert targets_of(None) == [None]
    assert targets_of("a") == ["a"]
    assert targets_of(["b", "a", "b"]) == ["b", "a"]


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("", "invalid_message"),
        ("a b", "invalid_message"),
        ([], "invalid_message"),
        (["a", "*"], "invalid_message"),
        ([f"a{number}" for number in range(MAX_TARGETS + 1)], "limit_exceeded"),
    ],
)
def test_what_is_no_target_is_refused(target: str | list[str], code: str) -> None:
    with pytest.raises(NexusError) as caught:
        targets_of(target)
    assert caught.value.code == code


# --- who waits


def test_everybody_who_waits_is_told_once_and_who_comes_later_too() -> None:
    command = make()
    first, second, late = RecordingReply(), RecordingReply(), RecordingReply()
    command.attach(first, RecordingPeer())
    command.attach(second, RecordingPeer())
    command.progress("a", Raw(b"1"))
    command.executions[0].outcome = Raw(b'{"ok":true}')
    command.end(State.COMPLETED, None)
    command.attach(late, RecordingPeer())
    for reply in (first, second, late):
        assert reply.answer == {
            "type": "command_result",
            "commandId": "c",
            "status": "success",
            "data": {"commandId": "c", "command": "deploy", "status": "executed", "result": {"ok": True}},
        }
    assert len(first.progressed) == 1 and late.progressed == []


def test_all_are_told_one_result_that_none_of_them_can_change_and_whose_json_is_made_once() -> None:
    command = make()
    replies = [RecordingReply(), RecordingReply()]
    for reply in replies:
        command.attach(reply, RecordingPeer())
    command.executions[0].outcome = NULL
    command.end(State.COMPLETED, None)
    (result,), (other,) = (reply.values for reply in replies)
    assert result is other
    with pytest.raises(AttributeError):
        result.command_id = "d"  # type: ignore[misc]
    (told,), (again,) = (reply.results for reply in replies)
    assert told is not again and told.data is again.data


def test_who_waits_is_bounded_and_one_too_many_is_refused_not_the_one_who_has_waited_longest() -> None:
    command = make()
    replies = [RecordingReply() for _ in range(MAX_WAITERS)]
    for reply in replies:
        command.attach(reply, RecordingPeer())
    with pytest.raises(NexusError, match="More than 64 wait for this command") as caught:
        command.attach(RecordingReply(), RecordingPeer())
    assert caught.value.code == "limit_exceeded"
    command.executions[0].outcome = NULL
    command.end(State.COMPLETED, None)
    assert [reply.ends for reply in replies] == [1] * len(replies)


def test_one_connection_cannot_take_all_the_places_of_who_waits() -> None:
    command, peer = make(), RecordingPeer()
    replies = [RecordingReply() for _ in range(MAX_WAITERS_EACH)]
    for reply in replies:
        command.attach(reply, peer)
        command.attach(reply, peer)  # waits already
    with pytest.raises(NexusError, match=f"More than {MAX_WAITERS_EACH} of this connection") as caught:
        command.attach(RecordingReply(), peer)
    assert caught.value.code == "limit_exceeded"
    command.attach(other := RecordingReply(), RecordingPeer())
    command.executions[0].outcome = NULL
    command.end(State.COMPLETED, None)
    assert [reply.ends for reply in [*replies, other]] == [1] * (len(replies) + 1)


def test_a_command_repeated_at_one_connection_is_replayed_there_once() -> None:
    command, peer = make(target=["a", "b"]), RecordingPeer()
    one, _two = command.executions
    one.move(State.SENT)
    one.move(State.COMPLETED)
    one.outcome = Raw(b"1")
    command.settled(one)
    replies = [RecordingReply() for _ in range(3)]
    for reply in replies:
        command.attach(reply, peer)
    assert [len(reply.results) for reply in replies] == [1, 0, 0]
    assert [bool(reply.charged) for reply in replies] == [True, False, False]


@pytest.mark.parametrize("ended", [False, True])
def test_what_cannot_be_told_again_now_is_refused_before_any_of_it_is_made(ended: bool) -> None:
    command = make(target=["a", "b"])
    command.size = 5000
    for execution in command.executions:
        execution.move(State.SENT)
        execution.move(State.COMPLETED)
        execution.outcome = Raw(b"1")
        command.settled(execution)
    if ended:
        command.end(State.COMPLETED, None)
    reply, peer = RecordingReply(), RecordingPeer()
    reply.rich = False
    with pytest.raises(NexusError) as caught:
        command.attach(reply, peer)
    assert caught.value.code == "rate_limited" and reply.results == [] and not command.peers()
    assert reply.charged >= 5000
    reply.rich = True
    command.attach(reply, peer)
    assert len(reply.results) == (3 if ended else 2)


def test_an_answer_is_encoded_once_for_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[object] = []

    def encode(value: object) -> bytes:
        encoded.append(value)
        return msgspec.json.encode(value)

    monkeypatch.setattr(native, "_encode", encode)
    command = make(target=["a", "b"])
    replies = [RecordingReply() for _ in range(MAX_WAITERS)]
    for reply in replies:
        command.attach(reply, RecordingPeer())
    for execution in command.executions:
        execution.move(State.SENT)
        execution.move(State.COMPLETED)
        execution.outcome = Raw(b"1")
        command.settled(execution)
    command.end(State.COMPLETED, None)
    assert len(encoded) == 3 and all(len(reply.results) == 3 for reply in replies)


def test_who_leaves_waits_no_longer_and_makes_room() -> None:
    book, command = CommandBook(Limits(), Clock(), Metrics()), make()
    book.add(command)
    staying, alive = RecordingPeer(), RecordingReply()
    book.attach(command, alive, staying)
    gone = []
    for _ in range(2 * MAX_WAITERS):
        peer, reply = RecordingPeer(), RecordingReply()
        book.attach(command, reply, peer)
        book.left(peer)
        book.left(peer)
        gone.append(reply)
        assert command.peers() == {staying} == book._awaited.keys()
    settle(book, command)
    assert alive.ends == 1 and not any(reply.ends for reply in gone)
    assert not book._awaited
    book.attach(command, alive, staying)
    assert alive.ends == 2 and not book._awaited, "an ended command is not waited for"


def test_of_one_who_leaves_nothing_is_kept_whatever_it_waited_for() -> None:
    book, one, other = CommandBook(Limits(), Clock(), Metrics()), make("one"), make("other")
    peer = RecordingPeer()
    for command in (one, other, one):
        if book.find(command.id) is None:
            book.add(command)
        book.attach(command, RecordingReply(), peer)
    settle(book, other)
    assert list(book._awaited) == [peer]
    book.left(peer)
    assert not book._awaited and not one.peers()


def test_one_who_is_ended_by_what_it_is_told_first_does_not_wait() -> None:
    book, command = CommandBook(Limits(), Clock(), Metrics()), make(target=["a", "b"])
    book.add(command)
    (first, _), peer = command.executions, RecordingPeer()
    first.move(State.SENT)
    first.move(State.COMPLETED)
    first.outcome = NULL
    command.settled(first)
    reply = RecordingReply()
    reply.result = lambda result: book.left(peer)  # type: ignore[method-assign]
    book.attach(command, reply, peer)
    assert not book._awaited and not command.peers()


def test_one_who_may_not_wait_leaves_nothing_behind() -> None:
    book, command = CommandBook(Limits(), Clock(), Metrics()), make()
    book.add(command)
    peer = RecordingPeer()
    for _ in range(MAX_WAITERS):
        book.attach(command, RecordingReply(), RecordingPeer())
    with pytest.raises(NexusError):
        book.attach(command, RecordingReply(), peer)
    assert peer not in book._awaited


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.dictionaries(st.text(max_size=2), inner, max_size=4) | st.lists(inner, max_size=3),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_parameters_have_one_digest_in_whatever_order_their_members_come(value: object) -> None:
    def turned(value: object) -> object:
        if isinstance(value, dict):
            return {name: turned(each) for name, each in reversed(value.items())}
        return [turned(each) for each in value] if isinstance(value, list) else value

    assert digest_of(value) == digest_of(turned(value)) != digest_of([value])


def test_who_joins_a_command_with_several_targets_learns_what_was_told_before() -> None:
    command = make(target=["a", "b"])
    early, late = RecordingReply(), RecordingReply()
    command.attach(early, RecordingPeer())
    one, two = command.executions
    one.move(State.SENT)
    one.move(State.COMPLETED)
    one.outcome = Raw(b"1")
    command.settled(one)
    command.attach(late, RecordingPeer())
    two.move(State.FAILED)
    two.outcome = NexusError("agent_offline", "away")
    command.settled(two)
    command.end(State.COMPLETED, None)
    assert [result.agent_id for result in early.results] == ["a", "b", None]
    assert [result.agent_id for result in late.results] == ["a", "b", None]
    after = RecordingReply()
    command.attach(after, RecordingPeer())
    assert after.results == early.results


def test_the_buffer_that_a_message_was_decoded_from_is_not_kept() -> None:
    command = make(parameters=Raw(memoryview(b"[1]")))
    assert isinstance(bytes(command.parameters), bytes) and bytes(command.parameters) == b"[1]"
    command.end(State.CANCELLED, NexusError("cancelled", "gone"))
    assert bytes(command.parameters) == b"{}"


# --- the book


def test_an_ended_command_is_remembered_for_a_day() -> None:
    clock = Clock()
    book = CommandBook(Limits(), clock, Metrics())
    command = make()
    book.add(command)
    clock.advance(10 * DAY)
    assert book.find("c") is command, "it has not ended"
    settle(book, command)
    clock.advance(DAY - 1)
    assert book.find("c") is command
    clock.advance(1)
    assert book.find("c") is None


def test_past_the_limit_the_command_that_ended_first_is_forgotten_and_none_that_lives() -> None:
    book = CommandBook(Limits(commands=3, share=1), Clock(), Metrics())
    alive, first, second = make("alive"), make("first"), make("second")
    for command in (alive, second, first):
        book.add(command)
    settle(book, first)
    settle(book, second)
    book.add(make("third"))
    assert book.find("first") is None
    assert [book.find(name) is not None for name in ("alive", "second", "third")] == [True] * 3


def test_a_book_full_of_living_commands_takes_no_more() -> None:
    book = CommandBook(Limits(commands=2, share=1), Clock(), Metrics())
    for number in range(2):
        book.add(make(f"c{number}"))
    with pytest.raises(NexusError) as caught:
        book.add(make("more"))
    assert caught.value.code == "limit_exceeded"
    assert book.find("more") is None


def test_one_caller_cannot_have_more_than_its_share_under_way_and_others_are_not_held_up() -> None:
    book = CommandBook(Limits(pending=2), Clock(), Metrics())
    mine = [make(f"c{number}") for number in range(2)]
    for command in mine:
        book.add(command)
    with pytest.raises(NexusError, match="More than 2 commands of this caller") as caught:
        book.add(make("more"))
    assert caught.value.code == "limit_exceeded"
    book.add(make("other", subject="t"))
    settle(book, mine[0])
    book.add(make("more"))


def test_0_means_no_limit() -> None:
    book = CommandBook(Limits(commands=0, pending=0), Clock(), Metrics())
    for number in range(10):
        book.add(make(f"c{number}"))


def test_results_are_kept_up_to_so_many_bytes_the_latest_longest() -> None:
    book = CommandBook(Limits(share=1), Clock(), Metrics())
    most = books.MAX_BYTES // (1024 * 1024)
    for number in range(most + 8):
        command = make(f"c{number}")
        book.add(command)
        settle(book, command, BIG)
    kept = [number for number in range(most + 8) if book.find(f"c{number}")]
    assert kept == list(range(kept[0], most + 8))
    assert most - 2 <= len(kept) <= most


def test_parameters_count_only_while_the_command_lives() -> None:
    book = CommandBook(Limits(share=1), Clock(), Metrics())
    taken: list[CommandRecord] = []
    for number in range(books.MAX_BYTES // (1024 * 1024) - 1):
        command = make(f"c{number}", parameters=BIG)
        book.add(command)
        taken.append(command)
    with pytest.raises(NexusError) as caught:
        book.add(make("more", parameters=BIG))
    assert caught.value.code == "limit_exceeded"
    for command in taken:
        settle(book, command)
    assert all(book.find(command.id) for command in taken)
    assert sum(command.size for command in taken) == 4 * len(taken)


def test_an_outcome_that_is_an_error_counts_by_its_text() -> None:
    book = CommandBook(Limits(), Clock(), Metrics())
    command = make()
    book.add(command)
    execution: Execution = command.executions[0]
    before = command.size
    book.settle(execution, NexusError("failed", "x" * 100))
    assert command.size - before == 100


# --- memory


@contextmanager
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_a_command_that_is_refused_is_freed_at_once_and_so_is_one_that_is_forgotten() -> None:
    book = CommandBook(Limits(commands=4), Clock(), Metrics())
    with without_collector():
        command = make("first", parameters=BIG, target=["a"])
        first = ref(command)
        book.add(command)
        outcome_of(book, command, 0)
        book.ended(command)
        command.end(State.COMPLETED, None)
        more = make("more", target=["a", "b"])
        refused = ref(more)
        with suppress(NexusError):
            book.add(more)
        assert book.find("first") is None, "forgotten for the one that was refused after all"
        del command, more
        assert first() is None and refused() is None


@given(st.text(min_size=1, max_size=3), st.text(max_size=12), st.sampled_from(["failed", "timeout"]))
def test_a_failure_of_a_target_is_told_in_the_words_in_which_it_came(target: str, message: str, code: str) -> None:
    failure = Failure.of(NexusError(code, message), target)
    assert (failure.code, failure.message(target)) == (code, message)


def test_targets_that_fail_alike_share_what_is_kept_of_it() -> None:
    targets = [f"agent-{number}" for number in range(100)]
    command = make(target=targets)
    book = CommandBook(Limits(), Clock(), Metrics())
    book.add(command)
    for execution in command.executions:
        execution.move(State.FAILED)
        book.settle(execution, NexusError("agent_offline", f"agent {execution.target} is offline"))
    assert len({id(execution._outcome) for execution in command.executions}) == 1
    assert [str(execution.outcome) for execution in command.executions] == [f"agent {name} is offline" for name in targets]


# --- shares


def outcome_of(book: CommandBook, command: CommandRecord, at: int, result: Raw = NULL) -> Raw | NexusError | None:
    execution = command.executions[at]
    execution.move(State.SENT)
    book.settle(execution, result)
    execution.move(State.COMPLETED)
    return execution.outcome


def test_two_subjects_with_a_thousand_large_commands_of_a_day_leave_the_others_theirs() -> None:
    metrics = Metrics()
    book = CommandBook(Limits(), Clock(), metrics)
    parameters = Raw(b'"' + b"x" * 65000 + b'"')
    for subject in ("one", "two"):
        for number in range(books.MAX_BYTES // 4 // len(bytes(parameters))):
            book.add(make(f"{subject}-{number}", subject, parameters=parameters, ttl=86400.0))
        with pytest.raises(NexusError, match="command_bytes of one subject") as caught:
            book.add(make(f"{subject}-more", subject, parameters=parameters, ttl=86400.0))
        assert caught.value.code == "limit_exceeded"
    assert metrics.shares_refused == {"command_bytes": 2}
    other = make("other", "somebody else", parameters=BIG)
    book.add(other)
    settle(book, other, BIG)
    assert book.find("other") is other
    assert book.find("two-0") is not None, "what lives is not forgotten for others"


def test_a_command_with_several_targets_counts_once_for_each() -> None:
    book = CommandBook(Limits(commands=100, pending=0), Clock(), Metrics())
    for number in range(2):
        book.add(make(f"c{number}", target=[f"a{target}" for target in range(12)]))
    with pytest.raises(NexusError, match="More than 25 commands of one subject"):
        book.add(make("more", target=["a", "b"]))
    book.add(make("one"))
    book.add(make("other", subject="t", target=[f"a{target}" for target in range(25)]))


def test_past_its_share_a_caller_forgets_its_own_and_nobody_elses() -> None:
    book = CommandBook(Limits(commands=8), Clock(), Metrics())
    for subject in ("other", "mine"):
        for number in range(3):
            command = make(f"{subject}-{number}", subject)
            book.add(command)
            settle(book, command)
    assert [book.find(f"other-{number}") is not None for number in range(3)] == [False, True, True]
    assert [book.find(f"mine-{number}") is not None for number in range(3)] == [False, True, True]


def test_results_of_several_targets_for_which_there_is_no_room_are_told_as_that() -> None:
    book = CommandBook(Limits(), Clock(), Metrics())
    command = make(target=[f"a{number}" for number in range(100)])
    book.add(command)
    outcomes = [outcome_of(book, command, at, BIG) for at in range(100)]
    kept = [outcome for outcome in outcomes if isinstance(outcome, Raw)]
    assert len(kept) == books.MAX_BYTES // 4 // (1024 * 1024) - 1
    assert {outcome.code for outcome in outcomes if isinstance(outcome, NexusError)} == {"limit_exceeded"}
    assert command.size <= books.MAX_BYTES // 4 + 100 * 200


def test_the_result_of_one_target_is_told_whatever_else_is_kept() -> None:
    book = CommandBook(Limits(), Clock(), Metrics())
    book.add(make("living", parameters=Raw(b'"' + b"x" * (16 * 1024 * 1024 - 1000) + b'"')))
    command, reply = make("c"), RecordingReply()
    book.add(command)
    book.attach(command, reply, RecordingPeer())
    settle(book, command, BIG)
    assert reply.answer["status"] == "success"
    assert book.find("c") is None, "and forgotten then, as there is no room for it"


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 5), st.integers(0, 400), st.booleans()), min_size=1, max_size=40
    )
)
def test_whatever_is_given_no_account_and_not_all_of_them_hold_more_than_there_is(
    given_: list[tuple[str, int, int, bool]],
) -> None:
    limits = Limits(commands=20, pending=0, share=0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(books, "MAX_BYTES", 1000)
        book = CommandBook(limits, Clock(), Metrics())
    for number, (subject, targets, size, ends) in enumerate(given_):
        command = make(f"c{number}", subject, [f"a{target}" for target in range(targets)], parameters=Raw(b"9" * size))
        try:
            book.add(command)
        except NexusError:
            continue
        if ends:
            for at in range(targets):
                outcome_of(book, command, at, Raw(b"1" * size))
            book.ended(command)
            command.end(State.COMPLETED, None)
        remembered = [*book._live.values(), *book._ended.values()]
        for each in "abc":
            mine = [one for one in remembered if one.account == each]
            assert sum(len(one.executions) for one in mine) == book._counts.of(each) <= 10
            assert sum(one.size for one in mine) == book._bytes.of(each) <= 500 + 5 * 100
        assert book._counts.taken <= 20 and sum(map(len, book._ended_of.values())) == len(book._ended)
