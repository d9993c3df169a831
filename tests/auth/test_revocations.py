"""Which credentials a revocation refuses, and for how long."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from nexus_tw.auth.revocations import Revocations
from nexus_tw.model.errors import NexusError
from nexus_tw.model.policy import ADMIN, Principal
from nexus_tw.model.revocations import MOST, Revocation, decode_revocation, encode_revocation

NOW = 1_700_000_000.0
MILLIS = int(NOW * 1000)


class World:
    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.revocations = Revocations(self.clock)

    def refuses(self, subject: str = "sally", issued: float | None = None, token_id: str = "", issuer: str = "") -> bool:
        who = Principal(subject, "agent", ADMIN, issuer=issuer, issued=issued, token_id=token_id)
        return self.revocations.refuses(who)


@pytest.fixture
def world() -> World:
    return World()


def subject(name: str, at: int = MILLIS, until: int | None = None) -> Revocation:
    return Revocation("subject", at, MILLIS, "ops", name, until)


def test_a_revoked_subject_is_refused_whatever_its_credentials_unless_they_were_issued_later(world: World) -> None:
    world.revocations.add(subject("sally"))
    assert world.refuses()  # an API key: nobody knows since when it is there
    assert world.refuses(issued=NOW - 100) and world.refuses(issued=NOW - 0.001)
    assert world.refuses(issued=0.0, issuer="jwt:x")
    assert not world.refuses(issued=NOW) and not world.refuses(issued=NOW + 1)
    assert not world.refuses("sam", issued=NOW - 100) and not world.refuses("sam")


def test_a_revoked_token_is_refused_and_no_other(world: World) -> None:
    world.revocations.add(Revocation("jti", MILLIS, MILLIS, "ops", "t-1"))
    assert world.refuses(issued=NOW - 1, token_id="t-1") and world.refuses("sam", issued=NOW + 1, token_id="t-1")
    assert not world.refuses(issued=NOW - 1, token_id="t-2")
    assert not world.refuses() and not world.refuses(issued=NOW - 1), "which have no id"


def test_tokens_issued_before_a_time_are_refused_and_credentials_without_one_are_not(world: World) -> None:
    world.revocations.add(Revocation("issuedBefore", MILLIS - 1000, MILLIS, "ops"))
    assert world.refuses(issued=NOW - 1.5) and world.refuses("sam", issued=0.0)
    assert not world.refuses(issued=NOW - 1) and not world.refuses()
    world.revocations.add(Revocation("issuedBefore", MILLIS - 9000, MILLIS, "ops"))
    assert world.refuses(issued=NOW - 1.5), "an earlier time takes nothing back"
    world.revocations.add(Revocation("issuedBefore", MILLIS, MILLIS, "ops"))
    assert world.refuses(issued=NOW - 0.5) and len(world.revocations) == 1


def test_it_holds_until_its_end_or_until_it_is_lifted(world: World) -> None:
    for name, until in (("sally", MILLIS + 5000), ("sam", None)):
        world.revocations.add(subject(name, until=until))
    world.clock.advance(4.999)
    assert world.refuses() and world.revocations.sweep() == []
    world.clock.advance(0.001)
    assert not world.refuses() and world.refuses("sam")
    assert [each.value for each in world.revocations.known()] == ["sam"]
    assert world.revocations.sweep() == ["subject:sally"]
    assert world.revocations.lift("subject:sam") and not world.revocations.lift("subject:sam")
    assert not world.refuses("sam") and len(world.revocations) == 0


def test_their_number_is_bounded(world: World) -> None:
    for number in range(MOST):
        world.revocations.add(subject(f"s{number}"))
    world.revocations.check(subject("s1"))
    with pytest.raises(NexusError) as refused:
        world.revocations.check(subject("one more"))
    assert refused.value.code == "limit_exceeded"


def test_what_is_kept_comes_back_as_it_was(world: World) -> None:
    for each in (subject("sälly", until=5), Revocation("issuedBefore", 1, 2, "ops"), Revocation("jti", 1, 2, "o", "\0")):
        assert decode_revocation(encode_revocation(each)) == each
    assert decode_revocation(b'{"kind":"of another version"}') is None and decode_revocation(b"\xff") is None
