"""The chain of authenticators, as the server gets it."""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from nexus_tw.auth import Authenticators, build
from nexus_tw.auth.carriers import MAX_TOKEN
from nexus_tw.auth.plugin import AUTHENTICATORS, PluginAuthenticator
from nexus_tw.interfaces.plugins import Credentials, IAuthenticator
from nexus_tw.model.errors import ConfigError, NexusError
from nexus_tw.model.policy import ADMIN, Principal
from nexus_tw.model.settings import Auth, Certificate, Jwt, Key, Role, Settings, Tls
from tests.auth.tokens import ISSUER, NOW, SECRET, claims, sign

ANN = Principal("ann", "admin", ADMIN)
TOKEN = "a-token-that-nobody-may-read-in-a-log"


@implementer(IAuthenticator)
class Says:
    """Answers by a function of the credentials, and counts how often it was asked."""

    def __init__(self, answer: Callable[[Credentials], Any]) -> None:
        self._answer = answer
        self.asked = 0

    def authenticate(self, credentials: Credentials) -> Any:
        self.asked += 1
        return self._answer(credentials)


def outcome(by: Authenticators, credentials: Credentials) -> Any:
    """Return the immediate result: a principal, or an exception."""
    results: list[Any] = []
    by.authenticate(credentials).addBoth(results.append)
    return results[0].value if isinstance(results[0], Failure) else results[0]


def unauthorized(by: Authenticators, credentials: Credentials) -> bool:
    error = outcome(by, credentials)
    return isinstance(error, NexusError) and (error.code, error.message) == ("unauthorized", "Unauthorized")


def test_the_first_who_knows_the_caller_decides() -> None:
    nobody, ann, bob = Says(lambda _: None), Says(lambda _: ANN), Says(lambda _: Principal("bob", "admin", ADMIN))
    assert outcome(Authenticators([nobody, ann, bob]), Credentials(TOKEN)) is ANN
    assert (nobody.asked, ann.asked, bob.asked) == (1, 1, 0)


def test_a_refusal_ends_it() -> None:
    def refuse(_: Credentials) -> Principal:
        raise NexusError("unauthorized", "Unauthorized")

    later = Says(lambda _: ANN)
    assert unauthorized(Authenticators([Says(refuse), later]), Credentials(TOKEN))
    assert later.asked == 0


def test_nobody_who_knows_the_caller_is_unauthorized() -> None:
    assert unauthorized(Authenticators([]), Credentials(TOKEN))
    assert unauthorized(Authenticators([Says(lambda _: None)]), Credentials(TOKEN))


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "né", "\ud800", "x" * (MAX_TOKEN + 1), "x" * 1_000_000])
def test_what_can_be_no_token_reaches_no_authenticator_also_beside_a_certificate(token: str) -> None:
    asked = Says(lambda _: ANN)
    assert unauthorized(Authenticators([asked]), Credentials(token))
    assert unauthorized(Authenticators([asked]), Credentials(token, "agent-1"))
    assert asked.asked == 0


def test_without_token_and_certificate_nobody_is_asked() -> None:
    asked = Says(lambda _: ANN)
    assert unauthorized(Authenticators([asked]), Credentials(None))
    assert asked.asked == 0


@pytest.mark.parametrize("kind", ["Deferred", "coroutine"])
def test_an_authenticator_may_take_its_time(kind: str) -> None:
    async def slowly() -> Principal:
        return await waiting

    waiting: Deferred[Principal] = Deferred()
    results: list[Principal] = []
    by = Authenticators([Says(lambda _: succeed(None)), Says(lambda _: waiting if kind == "Deferred" else slowly())])
    by.authenticate(Credentials(TOKEN)).addCallback(results.append)
    assert results == []
    waiting.callback(ANN)
    assert results == [ANN]


def test_giving_up_cancels_the_authenticator_that_is_asked_and_logs_nothing(log: list[LogEvent]) -> None:
    cancelled: list[bool] = []
    waiting: Deferred[Principal] = Deferred(lambda _: cancelled.append(True))
    task = Authenticators([Says(lambda _: waiting)]).authenticate(Credentials(TOKEN))
    failures: list[Failure] = []
    task.addErrback(failures.append)
    task.cancel()
    assert cancelled
    assert failures[0].check(CancelledError)
    assert log == []


@pytest.fixture
def log() -> Any:
    events: list[LogEvent] = []

    @implementer(ILogObserver)
    def observer(event: LogEvent) -> None:
        events.append(event)

    globalLogPublisher.addObserver(observer)
    yield events
    globalLogPublisher.removeObserver(observer)


def test_an_authenticator_that_breaks_lets_nobody_in_and_its_words_stay_out_of_the_log(log: list[LogEvent]) -> None:
    async def late(credentials: Credentials) -> Principal:
        raise RuntimeError(f"no such token: {credentials.token}")

    def early(credentials: Credentials) -> Principal:
        raise LookupError(f"no such token: {credentials.token}")

    other = Says(lambda _: ANN)
    assert unauthorized(Authenticators([Says(late), other]), Credentials(TOKEN))
    assert unauthorized(Authenticators([Says(early), other]), Credentials(TOKEN))
    assert unauthorized(Authenticators([Says(lambda _: "ann"), other]), Credentials(TOKEN)), (
        "no principal, nor to be waited for"
    )
    assert other.asked == 0
    lines = [formatEvent(event) for event in log]
    assert [line.rpartition(" ")[2] for line in lines] == ["RuntimeError", "LookupError", "TypeError"]
    assert TOKEN not in "".join(lines) + repr(log)


# --- as built from settings ---------------------------------------------------------------------------------------------

ROLES = {"agent": Role(telemetry=("{subject}",))}
KEYS = (Key("agent-1", "agent", f"sha256:{sha256(b'key-1').hexdigest()}"),)
CERTIFICATES = (Certificate("agent-2.example", "agent-2", "agent"),)
ISSUERS = (Jwt(ISSUER, "nexus", ("HS256",), secret=SECRET),)


def built(token: str | None = "start", **changes: Any) -> Authenticators:
    everything = {"keys": KEYS, "jwt": ISSUERS, "certificates": CERTIFICATES, **changes}
    clock = Clock()
    clock.advance(NOW)
    return build(Settings(roles=ROLES, auth=Auth(**everything), tls=Tls(client_ca="ca.pem")), token, clock)


@pytest.mark.parametrize(
    ("credentials", "subject"),
    [
        (Credentials("start"), "admin"),
        (Credentials("key-1"), "agent-1"),
        (Credentials(sign(claims(sub="agent-3"))), "agent-3"),
        (Credentials(None, "agent-2.example"), "agent-2"),
        (Credentials("key-1", "agent-2.example"), "agent-1"),
    ],
)
def test_a_server_knows_its_token_its_keys_its_issuers_and_its_certificates(credentials: Credentials, subject: str) -> None:
    assert outcome(built(), credentials).subject == subject


@pytest.mark.parametrize(
    "credentials",
    [
        Credentials("start "),
        Credentials("key-2"),
        Credentials("wrong", "agent-2.example"),
        Credentials(None, "agent-3.example"),
        Credentials(sign(claims(exp=NOW))),
        Credentials(sign(claims(iss="https://evil.example/"))),
    ],
)
def test_it_knows_nobody_else(credentials: Credentials) -> None:
    assert unauthorized(built(), credentials)


def test_a_key_may_have_the_built_in_role_admin_until_the_file_writes_another_of_that_name() -> None:
    keys = (Key("root", "admin", KEYS[0].hash),)
    assert outcome(built(keys=keys), Credentials("key-1")).admin
    own = Settings(roles={"admin": Role()}, auth=Auth(keys=keys))
    assert not outcome(build(own, None, Clock()), Credentials("key-1")).admin


def plugin(settings: Settings, reactor: Any) -> IAuthenticator:
    """The factory that an entry point of the operator's package would name."""
    assert settings.auth.plugins == ("own",)
    return Says(lambda credentials: Principal("own", "admin", ADMIN) if credentials.token == "own-token" else None)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution whose entry points are a working and a broken authenticator."""
    info = tmp_path / "own-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{AUTHENTICATORS.group}]\nown = {__name__}:plugin\nbroken = {__name__}:nothing\n"
        f"other = {__name__}:other\nfew = {__name__}:few\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert {each.name for each in metadata.entry_points(group=AUTHENTICATORS.group)} >= {"own", "broken"}


@pytest.mark.usefixtures("installed")
def test_a_plug_in_that_is_named_is_asked_last() -> None:
    by = built(plugins=("own",))
    assert outcome(by, Credentials("own-token")).subject == "own"
    assert outcome(by, Credentials("key-1")).subject == "agent-1"


@pytest.mark.usefixtures("installed")
def test_a_plug_in_that_is_only_installed_is_not_asked() -> None:
    assert unauthorized(built(), Credentials("own-token"))


def with_role(answer: Callable[[Credentials], Any], log: list[LogEvent]) -> tuple[Any, list[str]]:
    """Return the outcome of a plug-in's answer, and the log lines about it."""
    by = Authenticators([PluginAuthenticator("badge", Says(answer), ROLES)])
    return outcome(by, Credentials(TOKEN)), [formatEvent(event) for event in log]


def test_a_plug_in_names_subject_and_role_and_gets_what_the_file_grants(log: list[LogEvent]) -> None:
    """An authenticator that returns Principal("sven", "agent")."""
    sven, lines = with_role(lambda _: Principal("sven", "agent", expires=7.0), log)
    assert (sven.subject, sven.role, sven.expires, sven.named) == ("sven", "agent", 7.0, False)
    assert sven.allows("telemetry", "sven") and not sven.allows("telemetry", "ann") and sven.may_join("nexus")
    assert lines == []
    bare = Principal("sven", "agent")
    assert bare.named and not bare.allows("telemetry", "sven") and not bare.may_join("nexus"), "until it is looked up"


def test_a_plug_in_may_wait_and_may_still_make_the_whole_principal(log: list[LogEvent]) -> None:
    async def slowly(_: Credentials) -> Principal:
        return await succeed(Principal("sven", "agent"))

    assert with_role(slowly, log)[0].allows("telemetry", "sven")
    whole = with_role(lambda _: succeed(ANN), log)[0]
    assert (whole.subject, whole.role, whole.rights, whole.expires) == (ANN.subject, ANN.role, ANN.rights, ANN.expires)
    assert whole.issuer and whole.identity != ANN.identity, "its subjects are not those of the file"
    assert isinstance(with_role(lambda _: succeed(None), log)[0], NexusError), "somebody else's token"
    assert log == []


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda c: c.token, "returned a str instead of a nexus_tw.model.policy.Principal(subject, role) or None"),
        (lambda _: {"subject": "sven"}, "returned a dict instead of a nexus_tw.model.policy.Principal(subject, role) or None"),
        (lambda _: Principal("sven", "agnet"), "returned the role 'agnet', which is not in [roles]"),
        (lambda _: Principal("sven", "admin"), "returned the role 'admin', which is not in [roles]"),
        (lambda _: Principal("", "agent"), "returned a subject that is not 1 to 255 printable characters"),
        (lambda _: Principal("sv\nen", "agent"), "returned a subject that is not 1 to 255 printable characters"),
        (lambda _: Principal(cast(Any, b"sven"), "agent"), "returned a subject that is not 1 to 255 printable characters"),
    ],
)
def test_a_plug_in_that_breaks_its_contract_lets_nobody_in_and_is_named_with_what_it_did(
    answer: Callable[[Credentials], Any], told: str, log: list[LogEvent]
) -> None:
    error, lines = with_role(answer, log)
    assert isinstance(error, NexusError) and error.message == "Unauthorized"
    assert lines == [f"The authenticator badge {told}"]
    assert TOKEN not in repr(log)


def test_a_plug_in_that_fails_is_named_with_the_place_in_its_code_and_none_of_its_words(log: list[LogEvent]) -> None:
    async def authenticate(credentials: Credentials) -> Principal:
        raise KeyError(credentials.token)

    error, (line,) = with_role(authenticate, log)
    assert isinstance(error, NexusError)
    assert re.fullmatch(
        r"The authenticator badge failed at .*test_authenticators\.py:\d+ in authenticate with KeyError", line
    ), line
    assert TOKEN not in repr(log)


@pytest.mark.usefixtures("installed")
def test_a_plug_in_that_is_no_authenticator_is_named_at_the_start() -> None:
    with pytest.raises(ConfigError, match=r"'other': .* made a dict, which is not an authenticator \(.*: authenticate"):
        built(plugins=("other",))
    with pytest.raises(ConfigError, match=r"'few': .* is few\(settings\), but a factory of .* is called with 2 arguments"):
        built(plugins=("few",))


def other(settings: Settings, reactor: Any) -> dict[str, str]:
    return {}


def few(settings: Settings) -> None:
    pass


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["broken", "absent"])
def test_a_plug_in_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"auth\.plugins\[0\]: .*'{name}'"):
        built(plugins=(name,))
