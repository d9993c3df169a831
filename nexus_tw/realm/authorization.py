"""Authorization: an operator's authorizer decides what WAMP clients may do beyond the grants of their roles.

Actions that a role grants are allowed without asking, so that they cost nothing and the client that provides an authorizer
as a procedure can register it. The authorizer decides all others; its answers are cached for a while. If it fails, is away
or is too slow, the action is denied.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TooLate
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from nexus_tw.interfaces.peers import Fail
from nexus_tw.interfaces.realm import AuthorizeRequest
from nexus_tw.model.budgets import Budget
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import MAX_BYTES
from nexus_tw.model.policy import Action, Principal, forbidden
from nexus_tw.model.settings import Limits, Realm
from nexus_tw.runtime import plugins
from nexus_tw.runtime.failures import untraced
from nexus_tw.runtime.guard import Guard
from nexus_tw.runtime.plugin_runner import PluginRunner

PROCEDURE: Final = "procedure:"
REMEMBERED: Final = 16384  # cached answers of one realm
LIFETIME: Final = 10.0  # s until a cached answer expires
WAITING: Final = 4096  # requests of one realm that wait for an answer

# A waiting request: the functions to call if it is allowed or denied, and the account that it counts on.
_Waiter = tuple[Callable[[], None], Fail, str]

_guarded: Final = Guard(__name__, "Telling what the authorizer said")


class Question(NamedTuple):
    """Asks whether a principal may do this: `action` is subscribe, publish, call or register; `match` exact, prefix or
    wildcard.

    `issuer` is the authority that asserts the subject: `jwt:ISS`, `plugin:NAME`, `anonymous`; empty for the configuration file.
    """

    realm: str
    subject: str
    role: str
    action: Action
    uri: str
    match: str
    issuer: str = ""


Authorizer = Callable[[Question], Awaitable[Any] | Any]
"""Returns True, or an object whose member `allow` is true, to allow the action; anything else denies it. The answer may be a
Deferred or a coroutine."""


Call = Callable[[str, list[Any], Callable[[Any], None]], None]
"""Calls a procedure of the realm for the server itself: URI, positional arguments, and a function that is called once with the
first positional result or a `NexusError`, such as `timeout`."""


def procedure_of(authorizer: str) -> str | None:
    """Return the URI of an authorizer that is a WAMP procedure; None for any other."""
    return authorizer.removeprefix(PROCEDURE) if authorizer.startswith(PROCEDURE) else None


def authorizer_of(name: str, realm: Realm, call: Call) -> Authorizer | None:
    """Return the authorizer of the realm; None if it has none. Raise `ConfigError` if it cannot be imported.

    A procedure gets the arguments `{realm, authid, authrole, issuer?}`, URI, action and `{match}`.
    """
    if not realm.authorizer:
        return None
    procedure = procedure_of(realm.authorizer)
    if procedure is None:
        return plugins.load(f"realms.{name}.authorizer", "an authorizer", realm.authorizer, ("question",))

    def ask(question: Question) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        who = {"realm": question.realm, "authid": question.subject, "authrole": question.role}
        if question.issuer:
            who["issuer"] = question.issuer
        call(procedure, [who, question.uri, question.action, {"match": question.match}], answer.callback)
        return answer

    return ask


class Authorization:
    """Asks the authorizer of one realm, and caches its answers."""

    _log = Logger()

    def __init__(
        self, realm: str, authorizer: Authorizer, clock: IReactorTime, limits: Limits, metrics: Metrics
    ) -> None:
        """`limits.authorizer` bounds the time of each question, also if calls have no limit."""
        self._realm = realm
        self._authorizer = authorizer
        self._guest = PluginRunner(f"The authorizer of {realm}")
        self._clock = clock
        self._limits = limits
        self._metrics = metrics
        self._answers: dict[Question, tuple[bool, float]] = {}  # and when it expires; oldest first
        self._waiting: dict[Question, list[_Waiter]] = {}
        self._waiters = Budget("authorizer_requests", WAITING, limits, metrics, "rate_limited")
        self._failing = False

    def ask(
        self,
        principal: Principal,
        request: AuthorizeRequest,
        allowed: Callable[[], None],
        denied: Fail,
    ) -> None:
        """Call `allowed`, or `denied` with the reason, once: before this returns if the answer is cached.

        Call it only for a request that the role does not grant. The client may be gone by the time of the answer.
        """
        action, uri, pattern = request.action, request.uri, request.pattern
        match = "exact" if pattern is None or pattern.exact else "wildcard" if pattern.tail is None else "prefix"
        question = Question(self._realm, principal.subject, principal.role, action, uri, match, principal.issuer)
        remembered = self._recall(question)
        if remembered is not None:
            _tell(remembered, question, allowed, denied)
            return
        account = principal.account
        try:
            self._waiters.take(account)
        except NexusError as error:
            self._metrics.authorizer_failures["busy"] += 1
            denied(error)
            return
        if question in self._waiting:
            self._waiting[question].append((allowed, denied, account))
        else:
            self._waiting[question] = [(allowed, denied, account)]
            self._ask(self._authorizer, question)

    @staticmethod
    def grants(principal: Principal, request: AuthorizeRequest) -> bool:
        """Return whether the principal's role grants it, so that the authorizer need not be asked."""
        if request.pattern is None:
            return principal.allows(request.action, request.uri)
        return principal.covers(request.action, request.pattern)

    def _ask(self, authorizer: Authorizer, question: Question) -> None:
        answer: Deferred[Any] = self._guest.run(authorizer, question)
        if not answer.called:
            answer.addTimeout(self._limits.authorizer, self._clock)
        answer.addCallback(_is_yes)
        answer.addCallbacks(self._answered, self._failed, callbackArgs=(question,), errbackArgs=(question,))
        # Any other failure is a bug of the server: log it now, not when the Deferred is collected.
        answer.addErrback(lambda failure: self._log.failure("Telling what the authorizer said", failure=failure))

    def _answered(self, yes: bool, question: Question) -> None:
        if self._failing:
            self._failing = False
            self._log.info("The authorizer of {realm} answers again", realm=self._realm)
        if len(question.uri) <= MAX_BYTES:
            if len(self._answers) >= REMEMBERED:
                del self._answers[next(iter(self._answers))]
            self._answers[question] = (yes, self._clock.seconds() + LIFETIME)
        for allowed, denied, _ in self._leave(question):
            _guarded(_tell, yes, question, allowed, denied)

    def _failed(self, failure: Failure, question: Question) -> None:
        cause = failure.value
        late = isinstance(cause, TooLate) or (isinstance(cause, NexusError) and cause.code == "timeout")
        self._metrics.authorizer_failures["timeout" if late else "failed"] += 1
        why = f": no answer within {self._limits.authorizer:g} s" if late else ""
        error = NexusError("internal", f"It could not be found out whether this is allowed{why}")
        if not self._failing:
            self._failing = True
            text, reason = "The authorizer of {realm} fails: {reason}", failure.getErrorMessage() or failure.type
            if failure.check(NexusError, TooLate):
                self._log.error(text, realm=self._realm, reason=reason)
            else:  # a bug in the operator's function: its traceback shows where
                self._log.failure(text, failure, LogLevel.error, realm=self._realm, reason=reason)
        for _, denied, _ in self._leave(question):
            _guarded(denied, error)
        untraced(failure)

    def _leave(self, question: Question) -> list[_Waiter]:
        waiting = self._waiting.pop(question)
        for _, _, account in waiting:
            self._waiters.give_back(account)
        return waiting

    def _recall(self, question: Question) -> bool | None:
        """Return the cached answer; None if there is none or it has expired."""
        answer = self._answers.get(question)
        if answer is None:
            return None
        yes, until = answer
        if self._clock.seconds() < until:
            return yes
        del self._answers[question]
        return None


def _tell(yes: bool, question: Question, allowed: Callable[[], None], denied: Fail) -> None:
    if yes:
        allowed()
    else:
        denied(forbidden(question.action, question.uri))


def _is_yes(answer: Any) -> bool:
    if isinstance(answer, NexusError):
        raise answer
    return (answer.get("allow") if isinstance(answer, Mapping) else answer) is True
