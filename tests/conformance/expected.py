"""The cases of the suite, and the acceptable verdicts on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple


def _numbered(category: str, *counts: int) -> dict[str, int]:
    return {f"{category}.{number}": count for number, count in enumerate(counts, 1)}


# How many cases there are in each group; their last number counts from 1. There is no category 8 nor 11.
GROUPS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("1.1", "1.2"), 8),
    "2": 11, "3": 7, "4.1": 5, "4.2": 5, "5": 20,
    **_numbered("6", 3, 4, 2, 4, 5, 11, 4, 2, 4, 3, 5, 8, 5, 10, 1, 3, 5, 5, 5, 7, 8, 34, 7),
    "7.1": 6, "7.3": 6, "7.5": 1, "7.7": 13, "7.9": 9, "7.13": 2,
    **_numbered("9", 6, 6, 9, 9, 6, 6, 6, 6),
    "10.1": 1,
    **_numbered("12", *[18] * 5),
    **_numbered("13", *[18] * 7),
}
ALL: Final = tuple(f"{group}.{number}" for group, count in GROUPS.items() for number in range(1, count + 1))

OK: Final = "OK"
INFORMATIONAL: Final = "INFORMATIONAL"
# These tell how a server takes something that the RFC leaves open: which of a long message and the close behind it is answered,
# and close codes above those that mean anything.
OPEN: Final = frozenset({"7.1.6", "7.13.1", "7.13.2"})

# Of categories 12 and 13: small messages, and one that is sent in fragments of 256 bytes, with every kind of data and offer.
SHORT: Final = frozenset({"1", "2", "3", "4", "11"})


class Verdict(NamedTuple):
    """The suite's verdict on the messages, and on the end of the connection."""

    behavior: str
    close: str


def category(case: str) -> int:
    return int(case.partition(".")[0])


def basic() -> tuple[str, ...]:
    """Return categories 1 to 7: the whole protocol except large messages."""
    return tuple(case for case in ALL if category(case) <= 7)


def quick() -> tuple[str, ...]:
    """Return categories 1 to 10, and a short selection for compression."""
    return tuple(case for case in ALL if category(case) <= 10 or case.rpartition(".")[2] in SHORT)


def right(case: str) -> Verdict:
    return Verdict(INFORMATIONAL, INFORMATIONAL) if case in OPEN else Verdict(OK, OK)


def wrong(verdicts: Mapping[str, Verdict], cases: Iterable[str]) -> dict[str, Verdict | None]:
    """Return the cases with an unacceptable verdict (None: not run), and those run without having been requested."""
    wanted = dict.fromkeys(cases)
    bad: dict[str, Verdict | None] = {case: verdicts.get(case) for case in wanted if verdicts.get(case) != right(case)}
    return bad | {case: verdict for case, verdict in verdicts.items() if case not in wanted}
