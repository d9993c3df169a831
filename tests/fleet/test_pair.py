"""One pair's mail: whatever the bus loses, repeats and delays, each letter arrives once and in order."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.fleet.envelopes import Kind, Letter
from nexus_tw.fleet.pair import WINDOW, WINDOW_BYTES, Pair
from nexus_tw.interfaces.fleet import MAX_WAITING, MAX_WAITING_BYTES


def letter(body: bytes) -> Letter:
    return Letter(Kind.TOLD, "part", 0, body)


class Ends:
    """Both ends, with what is on the way between them."""

    def __init__(self) -> None:
        self.sender, self.receiver = Pair(), Pair()
        self.way: list[tuple[int, list[Letter]]] = []
        self.acks: list[int] = []
        self.put = 0
        self.got: list[bytes] = []

    def step(self, action: str, number: int) -> None:
        if action == "put":
            for _ in range(number):
                assert self.sender.put(letter(b"%d" % self.put))
                self.put += 1
        elif action == "send":
            first, letters = self.sender.take(60 * (number + 1))
            self.way.append((first, list(letters)))
        elif action == "arrive" and self.way:
            first, letters = self.way.pop(number % len(self.way))
            new, _ = self.receiver.receive(first, letters, 40 * len(letters))
            self.got += [each.body for each in new]
        elif action == "repeat" and self.way:
            self.way.append(self.way[number % len(self.way)])
        elif action == "lose" and self.way:
            self.way.pop(number % len(self.way))
        elif action == "acknowledge":
            self.acks.append(self.receiver.received)
        elif action == "acknowledged" and self.acks:
            self.sender.acknowledge(self.acks.pop(number % len(self.acks)))
        elif action == "again":
            self.sender.rewind()

    def check(self) -> None:
        assert self.got == [b"%d" % number for number in range(len(self.got))]
        sizes = [each.size for each, _ in self.sender._waiting]
        assert self.sender.bytes == sum(sizes)
        assert self.sender.flying_bytes == sum(sizes[: self.sender.flying])


ACTIONS = ("put", "send", "arrive", "repeat", "lose", "acknowledge", "acknowledged", "again")


@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 9)), max_size=200))
def test_each_letter_arrives_once_and_in_order(steps: list[tuple[str, int]]) -> None:
    """Nothing arrives twice or out of order; once the way works again, everything does."""
    ends = Ends()
    for action, number in steps:
        ends.step(action, number)
        ends.check()
    ends.way.clear()
    for _ in range(200):
        ends.step("again", 0)
        ends.step("send", 9)
        ends.step("arrive", 0)
        ends.step("acknowledge", 0)
        ends.step("acknowledged", -1)
    ends.check()
    assert len(ends.got) == ends.put
    assert (len(ends.sender), ends.sender.bytes, ends.sender.flying, ends.sender.flying_bytes) == (0, 0, 0, 0)


def fill(pair: Pair, body: Callable[[int], bytes]) -> int:
    """Put letters until one is refused. Return how many were taken."""
    count = 0
    while pair.put(letter(body(count))):
        count += 1
    return count


def test_what_waits_is_bounded_by_number_and_by_bytes() -> None:
    assert fill(Pair(), lambda _: b"") == MAX_WAITING
    big = Pair()
    assert fill(big, lambda _: bytes(100_000)) == MAX_WAITING_BYTES // letter(bytes(100_000)).size
    assert big.bytes <= MAX_WAITING_BYTES


def test_a_letter_beyond_the_bound_is_taken_alone() -> None:
    """A message that alone is longer than all that may wait still gets through."""
    pair = Pair()
    assert pair.put(letter(bytes(MAX_WAITING_BYTES)))
    assert not pair.put(letter(b""))
    assert [len(each.body) for each in pair.take(1)[1]] == [MAX_WAITING_BYTES]


def test_a_quarter_of_the_room_is_kept() -> None:
    pair = Pair()
    while pair.room(100_000):
        assert pair.put(letter(bytes(100_000)))
    assert MAX_WAITING_BYTES * 3 // 4 - 200_000 < pair.bytes <= MAX_WAITING_BYTES * 3 // 4
    assert pair.put(letter(bytes(100_000)))


def test_only_a_window_is_on_its_way() -> None:
    """Beyond it nothing is sent until something is acknowledged."""
    many, big = Pair(), Pair()
    for _ in range(WINDOW + 10):
        many.put(letter(b""))
    assert len(many.take(MAX_WAITING_BYTES)[1]) == WINDOW
    assert many.take(1000) == (WINDOW + 1, [])
    assert many.acknowledge(3)
    assert many.take(MAX_WAITING_BYTES) == (WINDOW + 1, [letter(b"")] * 3)
    for _ in range(20):
        big.put(letter(bytes(100_000)))
    taken = big.take(MAX_WAITING_BYTES)[1]
    assert WINDOW_BYTES - 101_000 < sum(each.size for each in taken) <= WINDOW_BYTES


def test_an_acknowledgement_of_what_was_never_sent_is_ignored() -> None:
    pair = Pair()
    pair.put(letter(b"1"))
    assert not pair.acknowledge(2)
    assert not pair.acknowledge(0)
    assert len(pair) == 1
