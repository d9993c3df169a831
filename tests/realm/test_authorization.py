"""Authorizers: asked about what roles do not grant, remembered for a while, and never a way in by failing."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from nexus_tw.interfaces.realm import AuthorizeRequest
from nexus_tw.model.errors import ConfigError, NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.policy import Action, Principal
from nexus_tw.model.settings import Limits, Realm, Role
from nexus_tw.realm.authorization import LIFETIME, REMEMBERED, WAITING, Authorization, Question, authorizer_of, procedure_of

ANN = Principal("ann", "user", Role(subscribe=("news.**",), register=("com.example.authorize",), call=("open",)))


PATIENCE = 5.0


class Gate:
    """An authorization, what its authorizer was asked, and what came of it."""

    def __init__(self, answer: Any = None, realm: str = "realm1", share: float = 0.25) -> None:
        """`answer` is given to every question; None: later, by `answers`. `share` is one subject's of those who wait."""
        self.answer = answer
        self.questions: list[Question] = []
        self.answers: list[Deferred[Any]] = []
        self.outcomes: list[str] = []
        self.clock = Clock()
        self.authorization = Authorization(
            realm, self.asked, self.clock, Limits(authorizer=PATIENCE, share=share), Metrics()
        )

    def asked(self, question: Question) -> Awaitable[Any] | Any:
        self.questions.append(question)
        if self.answer is not None:
            return self.answer
        self.answers.append(Deferred())
        return self.answers[-1]

    def check(self, action: Action, uri: str, pattern: Pattern | None = None, who: Principal = ANN) -> list[str]:
        """All outcomes up to now, `yes` or an error's code."""
        request = AuthorizeRequest(action, uri, pattern)
        self.authorization.ask(
            who, request, lambda: self.outcomes.append("yes"), lambda error: self.outcomes.append(error.code)
        )
        return self.outcomes


# --- grants -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "uri", "pattern", "granted"),
    [
        ("subscribe", "news.today", None, True),
        ("subscribe", "news.", Pattern.prefixed("news."), True),
        ("subscribe", "ne", Pattern.prefixed("ne"), False),
        ("register", "com.example.authorize", None, True),
        ("call", "open", None, True),
        ("call", "closed", None, False),
    ],
)
def test_what_is_granted_needs_no_asking(action: Action, uri: str, pattern: Pattern | None, granted: bool) -> None:
    assert Authorization.grants(ANN, AuthorizeRequest(action, uri, pattern)) is granted


def test_what_is_not_granted_is_the_authorizers_to_allow() -> None:
    assert Gate(True).check("publish", "news.today") == ["yes"]
    assert Gate(False).check("publish", "news.today") == ["forbidden"]


def test_a_question_says_everything_that_it_is_about() -> None:
    gate = Gate(True)
    gate.check("publish", "a.b")
    gate.check("subscribe", "a.", Pattern.prefixed("a."))
    gate.check("subscribe", "a..c", Pattern.wildcard("a..c"))
    gate.check("register", "a.b", Pattern.parse("a.b"))
    assert gate.questions == [
        Question("realm1", "ann", "user", "publish", "a.b", "exact"),
        Question("realm1", "ann", "user", "subscribe", "a.", "prefix"),
        Question("realm1", "ann", "user", "subscribe", "a..c", "wildcard"),
        Question("realm1", "ann", "user", "register", "a.b", "exact"),
    ]


# --- answers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [True, {"allow": True}, {"allow": True, "disclose": False}])
def test_what_counts_as_yes(answer: Any) -> None:
    assert Gate(answer).check("call", "x") == ["yes"]


@pytest.mark.parametrize("answer", [False, 1, "true", "yes", [True], {}, {"allow": 1}, {"allow": "true"}, {"allowed": True}])
def test_what_does_not(answer: Any) -> None:
    assert Gate(answer).check("call", "x") == ["forbidden"]


def test_nothing_is_no_answer_that_allows() -> None:
    outcomes = list[str]()
    authorization = Authorization("realm1", lambda question: None, Clock(), Limits(authorizer=PATIENCE), Metrics())
    request = AuthorizeRequest("call", "x")
    authorization.ask(ANN, request, lambda: outcomes.append("yes"), lambda error: outcomes.append(error.code))
    assert outcomes == ["forbidden"]


def test_an_answer_may_come_later_and_by_a_coroutine() -> None:
    gate = Gate()
    assert gate.check("call", "x") == []
    gate.answers[0].callback(True)
    assert gate.outcomes == ["yes"]

    async def coroutine(question: Question) -> bool:
        return question.uri == "x"

    outcomes = list[str]()
    authorization = Authorization("realm1", coroutine, Clock(), Limits(authorizer=PATIENCE), Metrics())
    for uri in ("x", "y"):
        request = AuthorizeRequest("call", uri)
        authorization.ask(ANN, request, lambda: outcomes.append("yes"), lambda error: outcomes.append(error.code))
    assert outcomes == ["yes", "forbidden"]


def test_who_asks_the_same_while_it_is_asked_waits_for_the_same_answer() -> None:
    gate = Gate()
    for _ in range(3):
        gate.check("call", "x")
    gate.check("call", "y")
    assert len(gate.questions) == 2
    gate.answers[0].callback(True)
    assert gate.outcomes == ["yes"] * 3
    gate.answers[1].callback(False)
    assert gate.outcomes == ["yes"] * 3 + ["forbidden"]


def test_who_is_told_may_ask_again() -> None:
    """Also while others are being told."""
    gate, outcomes = Gate(), list[str]()

    def allowed() -> None:
        outcomes.append("first")
        gate.authorization.ask(ANN, AuthorizeRequest("call", "x"), lambda: outcomes.append("again"), lambda error: None)

    gate.authorization.ask(ANN, AuthorizeRequest("call", "x"), allowed, lambda error: None)
    gate.check("call", "x")
    gate.answers[0].callback(True)
    assert (outcomes, gate.outcomes) == (["first", "again"], ["yes"])


# --- remembering --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "outcome"), [(True, "yes"), (False, "forbidden")])
def test_an_answer_holds_for_a_while(answer: bool, outcome: str) -> None:
    gate = Gate(answer)
    gate.check("call", "x")
    gate.clock.advance(LIFETIME - 0.1)
    assert gate.check("call", "x") == [outcome] * 2
    assert len(gate.questions) == 1
    gate.answer = not answer
    gate.clock.advance(0.1)
    assert gate.check("call", "x")[2] != outcome
    assert len(gate.questions) == 2


def test_an_answer_is_for_one_principal_action_uri_and_kind_of_match() -> None:
    gate = Gate(True)
    gate.check("subscribe", "x")
    for who in (Principal("bob", "user", Role()), Principal("ann", "other", Role())):
        gate.check("subscribe", "x", who=who)
    gate.check("publish", "x")
    gate.check("subscribe", "x", Pattern.prefixed("x"))
    gate.check("subscribe", "y")
    assert len(gate.questions) == len(set(gate.questions)) == 6


def test_what_is_remembered_is_bounded_and_the_oldest_goes() -> None:
    gate = Gate(True)
    for number in range(REMEMBERED + 1):
        gate.check("call", f"x{number}")
    gate.check("call", "x1")
    assert len(gate.questions) == REMEMBERED + 1
    gate.check("call", "x0")
    assert len(gate.questions) == REMEMBERED + 2


# --- failing ------------------------------------------------------------------------------------------------------------


def test_one_that_fails_denies_and_is_asked_again() -> None:
    gate = Gate()
    gate.check("call", "x")
    gate.check("call", "x")
    gate.answers[0].errback(RuntimeError("out of order"))
    assert gate.outcomes == ["internal"] * 2
    gate.check("call", "x")
    gate.answers[1].callback(True)
    assert gate.outcomes == ["internal", "internal", "yes"]


def test_one_that_raises_denies() -> None:
    def raising(question: Question) -> bool:
        raise LookupError(question.uri)

    outcomes: list[str] = []
    authorization = Authorization("realm1", raising, Clock(), Limits(authorizer=PATIENCE), Metrics())
    request = AuthorizeRequest("call", "x")
    authorization.ask(ANN, request, lambda: outcomes.append("yes"), lambda error: outcomes.append(error.code))
    assert outcomes == ["internal"]


def test_one_that_is_too_slow_denies_and_what_it_says_later_does_not_count() -> None:
    gate = Gate()
    gate.check("call", "x")
    gate.clock.advance(PATIENCE)
    assert gate.outcomes == ["internal"]
    assert gate.answers[0].called
    gate.answers[0].callback(True)
    assert gate.outcomes == ["internal"]
    gate.check("call", "x")
    assert len(gate.questions) == 2


def test_that_it_fails_is_logged_when_it_begins_and_when_it_ends(logged: list[str]) -> None:
    gate = Gate()
    for number in range(4):
        gate.check("call", f"x{number}")
    for number in range(2):
        gate.answers[number].errback(RuntimeError("out of order"))
    gate.answers[2].callback(True)
    gate.answers[3].callback(True)
    assert logged == [
        "error: The authorizer of realm1 fails: out of order (RuntimeError)",
        "info: The authorizer of realm1 answers again",
    ]


def test_those_who_wait_are_bounded() -> None:
    gate = Gate(share=1)
    for number in range(WAITING):
        gate.check("call", f"x{number % 7}")
    assert gate.outcomes == []
    assert gate.check("call", "x0") == ["rate_limited"]
    gate.answers[0].callback(True)
    answered = len(gate.outcomes)
    gate.check("call", "y")
    assert len(gate.outcomes) == answered, "there is room again"
    assert gate.questions[-1].uri == "y"


def test_one_subject_leaves_room_for_those_of_others_who_wait() -> None:
    gate, bob = Gate(), Principal("bob", "user", Role())
    for _ in range(WAITING // 4):
        gate.check("call", "x")
    assert gate.check("call", "x") == ["rate_limited"]
    gate.check("call", "x", who=bob)
    assert len(gate.questions) == 2 and len(gate.outcomes) == 1
    gate.answers[0].callback(True)
    gate.check("call", "y")
    assert gate.questions[-1].uri == "y" and set(gate.outcomes[1:]) == {"yes"}


# --- where they come from -----------------------------------------------------------------------------------------------


def function(question: Question) -> bool:
    return question.subject == "ann"


NO_FUNCTION = "text"


def no_call(procedure: str, args: list[Any], done: Any) -> None:
    raise AssertionError("nothing is to be called")


def test_a_realm_may_have_none() -> None:
    assert authorizer_of("realm1", Realm(), no_call) is None


def test_a_function_is_imported() -> None:
    found = authorizer_of("realm1", Realm(authorizer=f"{__name__}:function"), no_call)
    assert found is function


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("no_such_module:function", "cannot be imported: ModuleNotFoundError"),
        (f"{__name__}:no_such_function", "cannot be imported: AttributeError"),
        (f"{__name__}:NO_FUNCTION", "cannot be called"),
    ],
)
def test_a_function_that_cannot_be_used_is_named(reference: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        authorizer_of("realm1", Realm(authorizer=reference), no_call)
    assert str(caught.value).startswith(f"realms.realm1.authorizer: {reference!r} {why}")


class Dealer:
    """Receives the calls of an authorizer that is a procedure."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[Any]]] = []
        self.done: list[Any] = []
        self.clock = Clock()
        found = authorizer_of("realm1", Realm(authorizer="procedure:com.example.authorize"), self.call)
        assert found is not None
        self.authorization = Authorization("realm1", found, self.clock, Limits(authorizer=PATIENCE), Metrics())
        self.outcomes: list[str] = []

    def call(self, procedure: str, args: list[Any], done: Any) -> None:
        self.calls.append((procedure, args))
        self.done.append(done)

    def check(self, uri: str = "x") -> None:
        request = AuthorizeRequest("call", uri)
        self.authorization.ask(
            ANN, request, lambda: self.outcomes.append("yes"), lambda error: self.outcomes.append(error.code)
        )


def test_a_procedure_is_called_with_who_wants_to_do_what() -> None:
    dealer = Dealer()
    dealer.check("com.example.add")
    who = {"realm": "realm1", "authid": "ann", "authrole": "user"}
    assert dealer.calls == [("com.example.authorize", [who, "com.example.add", "call", {"match": "exact"}])]
    dealer.done[0](True)
    assert dealer.outcomes == ["yes"]


def test_a_procedure_that_says_no_or_is_not_there() -> None:
    dealer = Dealer()
    dealer.check("x")
    dealer.done[0]({"allow": False})
    dealer.check("y")
    dealer.done[1](NexusError("no_such_command", "Nobody executes it"))
    assert dealer.outcomes == ["forbidden", "internal"]


def test_a_procedure_that_answers_too_late() -> None:
    dealer = Dealer()
    dealer.check()
    dealer.clock.advance(PATIENCE)
    dealer.done[0](True)
    assert dealer.outcomes == ["internal"]
    assert dealer.clock.getDelayedCalls() == []


def test_procedures_are_told_from_functions() -> None:
    assert procedure_of("procedure:com.example.authorize") == "com.example.authorize"
    assert procedure_of("package.module:function") is None
    assert procedure_of("") is None
