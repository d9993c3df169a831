from __future__ import annotations

import pytest

from nexus_tw.model import errors
from nexus_tw.model.errors import ERRORS, Close, NexusError, invalid

# The table of the contract: code, retryable, HTTP status, WAMP URI without `wamp.error.` unless it is our own.
CONTRACT = """
invalid_json        no   400  invalid_argument
invalid_message     no   400  invalid_argument
unknown_type        no   400  invalid_argument
method_not_allowed  no   405  invalid_argument
unauthorized        no   401  not_authorized
forbidden           no   403  not_authorized
not_found           no   404  no_such_procedure
no_such_command     no   404  no_such_procedure
agent_offline       yes  409  no_such_procedure
timeout             yes  504  timeout
expired             no   410  canceled
cancelled           no   409  canceled
agent_lost          yes  502  canceled
failed              no   500  nexus.error.failed
too_large           no   413  payload_size_exceeded
limit_exceeded      no   422  unavailable
rate_limited        yes  429  unavailable
store_unavailable   yes  503  unavailable
bus_unavailable     yes  503  unavailable
shutting_down       yes  503  unavailable
internal            yes  500  unavailable
"""
ROWS = [line.split() for line in CONTRACT.split("\n") if line]


@pytest.mark.parametrize(("code", "retryable", "http", "wamp"), ROWS, ids=[row[0] for row in ROWS])
def test_each_error_has_the_status_and_the_uri_of_the_contract(code: str, retryable: str, http: str, wamp: str) -> None:
    kind = NexusError(code, "why").kind
    assert (kind.retryable, kind.http) == (retryable == "yes", int(http))
    assert kind.wamp == (wamp if "." in wamp else f"wamp.error.{wamp}")


def test_there_is_no_error_that_the_contract_does_not_know() -> None:
    assert set(ERRORS) == {row[0] for row in ROWS}


def test_an_error_is_shown_with_its_code_and_text() -> None:
    error = NexusError("failed", "it broke")
    assert (str(error), repr(error)) == ("it broke", "NexusError('failed', 'it broke')")


def test_what_is_of_the_wrong_shape_is_named() -> None:
    error = invalid("agentId", "expected str")
    assert (error.code, error.message) == ("invalid_message", "Invalid message format: agentId: expected str")


NARROWER = """
INVALID_URI           invalid_message  invalid_uri
NOT_SUBSCRIBED        invalid_message  no_such_subscription
NOT_REGISTERED        invalid_message  no_such_registration
NO_SUCH_SESSION       not_found        no_such_session
NO_SUCH_SUBSCRIPTION  not_found        no_such_subscription
NO_SUCH_REGISTRATION  not_found        no_such_registration
HISTORY_UNAVAILABLE   not_found        history_unavailable
ALREADY_REGISTERED    forbidden        procedure_already_exists
POLICY_CONFLICT       forbidden        procedure_exists_with_different_invocation_policy
UNSUPPORTED           failed           feature_not_supported
"""


def test_where_wamp_has_a_narrower_name_the_rest_is_as_for_the_code() -> None:
    rows = [line.split() for line in NARROWER.split("\n") if line]
    assert [name for name, row in vars(errors).items() if isinstance(row, errors.Narrower)] == [row[0] for row in rows]
    for name, code, uri in rows:
        error = getattr(errors, name).error("why")
        assert (error.code, error.message, error.uri) == (code, "why", f"wamp.error.{uri}")
        assert error.kind is ERRORS[code]


def test_an_error_of_a_code_has_the_name_of_that_code() -> None:
    assert {code: NexusError(code, "why").uri for code in ERRORS} == {code: kind.wamp for code, kind in ERRORS.items()}


@pytest.mark.parametrize(
    ("close", "code", "reason", "reconnect"),
    [
        (errors.HEARTBEAT_TIMEOUT, 1000, "Heartbeat timeout", True),
        (errors.SHUTTING_DOWN, 1000, "Server shutting down", True),
        (errors.UNAUTHORIZED, 1008, "Unauthorized", False),
        (errors.SLOW_CONSUMER, 4001, "Slow consumer", True),
        (errors.RATE_LIMITED, 4002, "Rate limit exceeded", True),
        (errors.REPLACED, 4003, "Replaced by a newer connection", False),
        (errors.TOO_MANY_ERRORS, 4004, "Too many errors", True),
        (errors.TOKEN_EXPIRED, 4500, "Token expired", False),
        (errors.RIGHTS_CHANGED, 4005, "Rights changed", True),
        (errors.REVOKED, 4501, "Revoked", False),
        (errors.DISCONNECTED, 4502, "Disconnected by administrator", False),
    ],
)
def test_each_close_has_the_code_and_reason_of_the_contract(close: Close, code: int, reason: str, reconnect: bool) -> None:
    assert close[:3] == (code, reason, reconnect)
    assert (close.delay > 0) is reconnect, "who comes back is told how long to spread it"
    assert len(reason.encode()) <= 123, "RFC 6455 section 5.5: a control frame has 125 bytes, two of them the code"
