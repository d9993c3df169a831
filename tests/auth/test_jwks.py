"""Key sets: the keys that are used, and when a set is read again."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.web.client import ResponseNeverReceived
from zope.interface import implementer

from nexus_tw.auth.jwks import AGAIN, MAX_AGE, MAX_KEYS, RETRY, STALE, TIMEOUT, KeySet, parse
from tests.auth.tokens import NOW, curve_key, edwards_key, goldilocks_key, jwk, key_set, rsa_key

FIRST, SECOND = edwards_key("first"), edwards_key("second")
SET_OF_FIRST = key_set(jwk(FIRST, "EdDSA", kid="1"))
SET_OF_SECOND = key_set(jwk(SECOND, "EdDSA", kid="2"))


# --- what is taken from a set -------------------------------------------------------------------------------------------


def served(*members: Any) -> set[str]:
    """The algorithms of the first key of a set; none where no key is usable."""
    try:
        candidate = parse(key_set(*members))[None][0]
    except ValueError:
        return set()
    names = ("HS256", "RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA")
    return {name for name in names if candidate.serves(name)}


@pytest.mark.parametrize(
    ("member", "algorithms"),
    [
        (jwk(rsa_key(), "RS256"), {"RS256", "PS256"}),
        (jwk(rsa_key(), "RS256", key_ops=None), {"RS256", "PS256"}),
        (jwk(rsa_key(), "RS256", alg="PS256"), {"PS256"}),
        (jwk(rsa_key(), "RS256", use="sig"), {"RS256", "PS256"}),
        (jwk(curve_key("P-256"), "ES256"), {"ES256"}),
        (jwk(curve_key("P-384"), "ES384"), {"ES384"}),
        (jwk(curve_key("P-521"), "ES512"), {"ES512"}),
        (jwk(FIRST, "EdDSA"), {"EdDSA"}),
        (jwk(goldilocks_key(), "EdDSA", alg="EdDSA"), {"EdDSA"}),
    ],
)
def test_a_public_key_serves_the_algorithms_of_its_kind_or_the_one_it_names(member: Any, algorithms: set[str]) -> None:
    assert served(member) == algorithms


@pytest.mark.parametrize(
    "member",
    [
        {"kty": "oct", "k": "c" * 64, "alg": "HS256"},
        jwk(FIRST, "EdDSA", d="AAAA"),
        jwk(rsa_key(1024), "RS256"),
        jwk(rsa_key(), "RS256", use="enc"),
        jwk(rsa_key(), "RS256", key_ops=["encrypt"]),
        jwk(rsa_key(), "RS256", key_ops="verify"),
        jwk(rsa_key(), "RS256", alg="RSA-OAEP"),
        jwk(rsa_key(), "RS256", alg="HS256"),
        jwk(rsa_key(), "RS256", alg="EdDSA"),
        jwk(rsa_key(), "RS256", alg=["RS256"]),
        jwk(rsa_key(), "RS256", n=1),
        jwk(rsa_key(), "RS256", n="A"),
        jwk(rsa_key(), "RS256", e=None),
        jwk(curve_key("secp256k1"), "ES256K"),
        jwk(curve_key("P-256"), "ES256", x="AAAA"),
        jwk(curve_key("P-256"), "ES256", crv="P-384"),
        jwk(curve_key("P-256"), "ES256", crv=["P-256"]),
        {"kty": "RSA"},
        {"kty": ["RSA"]},
        {"kty": "new"},
        {},
        [],
        "key",
        None,
        1,
    ],
)
def test_what_is_no_public_key_for_signatures_is_passed_over(member: Any) -> None:
    assert served(member) == set()
    assert served(member, jwk(FIRST, "EdDSA")) == {"EdDSA"}


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{}", b'{"keys": {}}', b"\xff", b'{"keys": [' + b"[" * 100000])
def test_what_is_no_set_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a JSON object|no list of keys"):
        parse(body)


def test_only_so_many_keys_of_a_set_are_looked_at() -> None:
    assert served(*[{}] * (MAX_KEYS - 1), jwk(FIRST, "EdDSA")) == {"EdDSA"}
    assert served(*[{}] * MAX_KEYS, jwk(FIRST, "EdDSA")) == set()


# --- when it is read ----------------------------------------------------------------------------------------------------


class Source:
    """A set's origin under the test's control: counts reads, and answers each with what is there, or when told to."""

    def __init__(self, answer: bytes | Exception | None) -> None:
        self.answer = answer  # None: it hangs
        self.reads = 0
        self.cancelled = 0
        self.hanging: list[Deferred[bytes]] = []

    def _cancel(self, _: object) -> None:
        self.cancelled += 1

    async def read(self) -> bytes:
        self.reads += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is None:
            self.hanging.append(Deferred(self._cancel))
            return await self.hanging[-1]
        return self.answer


def started(source: Source) -> tuple[KeySet, Clock]:
    clock = Clock()
    clock.advance(NOW)
    return KeySet("https://id.example/", source.read, clock), clock


def find(keys: KeySet, kid: str | None, algorithm: str = "EdDSA") -> Deferred[Any]:
    return Deferred.fromCoroutine(_find(keys, kid, algorithm))


async def _find(keys: KeySet, kid: str | None, algorithm: str) -> Any:
    return await keys.find(kid, algorithm)


def now(deferred: Deferred[Any]) -> Any:
    """Return the value with which it has fired."""
    assert deferred.called
    return deferred.result


def test_a_set_is_read_when_it_is_asked_for_and_kept_for_ten_minutes() -> None:
    source = Source(SET_OF_FIRST)
    keys, clock = started(source)
    assert source.reads == 0
    for _ in range(3):
        assert now(find(keys, "1")) == FIRST.public_key()
    clock.advance(MAX_AGE - 1)
    assert now(find(keys, "1")) == FIRST.public_key()
    assert source.reads == 1
    source.answer = SET_OF_SECOND
    clock.advance(1)
    assert now(find(keys, "1")) is None, "withdrawn"
    assert now(find(keys, "2")) == SECOND.public_key()
    assert source.reads == 2


def test_an_unknown_kid_reads_the_set_again_at_most_once_a_minute() -> None:
    source = Source(SET_OF_FIRST)
    keys, clock = started(source)
    for number in range(100):
        assert now(find(keys, f"forged {number}")) is None
    assert source.reads == 1
    clock.advance(AGAIN - 1)
    source.answer = SET_OF_SECOND
    assert now(find(keys, "2")) is None
    clock.advance(1)
    assert now(find(keys, "2")) == SECOND.public_key()
    assert source.reads == 2


def test_the_algorithm_must_be_the_keys() -> None:
    keys, _ = started(Source(SET_OF_FIRST))
    assert now(find(keys, "1", "RS256")) is None
    assert now(find(keys, "1", "HS256")) is None


def test_without_a_kid_only_a_set_with_one_such_key_has_an_answer() -> None:
    keys, _ = started(Source(key_set(jwk(FIRST, "EdDSA", kid="1"), jwk(rsa_key(), "RS256"))))
    assert now(find(keys, None)) == FIRST.public_key()
    assert now(find(keys, None, "RS256")) == rsa_key().public_key()
    keys, _ = started(Source(key_set(jwk(FIRST, "EdDSA", kid="1"), jwk(SECOND, "EdDSA", kid="2"))))
    assert now(find(keys, None)) is None


def test_two_keys_of_one_kid_and_kind_are_nobodys() -> None:
    keys, _ = started(
        Source(key_set(jwk(FIRST, "EdDSA", kid="1"), jwk(SECOND, "EdDSA", kid="1"), jwk(rsa_key(), "RS256", kid="1")))
    )
    assert now(find(keys, "1")) is None
    assert now(find(keys, "1", "RS256")) == rsa_key().public_key(), "RFC 7517 section 4.5 allows one kid for keys of two kinds"


def test_two_issuers_with_the_same_kid_stay_apart() -> None:
    one, _ = started(Source(key_set(jwk(FIRST, "EdDSA", kid="same"))))
    other, _ = started(Source(key_set(jwk(SECOND, "EdDSA", kid="same"))))
    assert now(find(one, "same")) == FIRST.public_key()
    assert now(find(other, "same")) == SECOND.public_key()


def test_one_read_serves_all_who_wait_for_it_and_one_who_leaves_takes_nothing_from_the_others() -> None:
    source = Source(None)
    keys, _ = started(source)
    waiting = [find(keys, "1") for _ in range(5)]
    waiting[0].addErrback(lambda _: "gone")
    waiting[0].cancel()
    assert source.reads == 1
    source.hanging[0].callback(SET_OF_FIRST)
    assert [now(each) for each in waiting] == ["gone", *[FIRST.public_key()] * 4]


def test_a_read_that_hangs_is_given_up() -> None:
    source = Source(None)
    keys, clock = started(source)
    waiting = find(keys, "1")
    clock.advance(TIMEOUT - 0.1)
    assert not waiting.called
    clock.advance(0.1)
    assert now(waiting) is None
    assert source.cancelled == 1


@pytest.mark.parametrize("answer", [OSError("refused"), b"junk", b'{"keys": []}'])
def test_after_a_failed_read_the_former_keys_stay_for_an_hour_and_it_is_tried_again_soon(answer: bytes | Exception) -> None:
    source = Source(SET_OF_FIRST)
    keys, clock = started(source)
    assert now(find(keys, "1")) is not None
    source.answer = answer
    clock.advance(MAX_AGE)
    for _ in range(10):
        assert now(find(keys, "1")) is not None
    assert source.reads == 2, "not at each token"
    clock.advance(RETRY)
    assert now(find(keys, "1")) is not None
    assert source.reads == 3
    clock.advance(STALE - MAX_AGE - RETRY)
    assert now(find(keys, "1")) is None
    source.answer = SET_OF_FIRST
    clock.advance(RETRY)
    assert now(find(keys, "1")) is not None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (OSError("refused"), "OSError: refused"),
        (b"junk", "ValueError: not a JSON object"),
        (None, "no complete answer within 5 s"),
        (ResponseNeverReceived([Failure(OSError("refused"))]), "OSError: refused"),
    ],
)
def test_a_failed_read_is_logged_with_its_reason_and_without_what_is_secret_in_the_address(
    answer: bytes | Exception | None, reason: str
) -> None:
    lines: list[str] = []

    @implementer(ILogObserver)
    def observer(event: LogEvent) -> None:
        lines.append(formatEvent(event))

    clock = Clock()
    clock.advance(NOW)
    keys = KeySet("https://id.example/?key=hunter2", Source(answer).read, clock)
    globalLogPublisher.addObserver(observer)
    try:
        find(keys, "1")
        clock.advance(TIMEOUT)
    finally:
        globalLogPublisher.removeObserver(observer)
    assert lines == [f"Keys of https://id.example/?key=*** cannot be read: {reason}"]


def test_an_address_that_never_answered_is_tried_again_soon() -> None:
    source = Source(OSError("refused"))
    keys, clock = started(source)
    assert now(find(keys, "1")) is None
    source.answer = SET_OF_FIRST
    assert now(find(keys, "1")) is None
    clock.advance(RETRY)
    assert now(find(keys, "1")) is not None
