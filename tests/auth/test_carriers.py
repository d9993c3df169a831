"""The places in a request that are searched for its token."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.auth.carriers import MAX_TOKEN, SUBPROTOCOL, find_token, is_token


@pytest.mark.parametrize("authorization", ["Bearer abc.def", "bearer abc.def", "BEARER abc.def", "Bearer   abc.def  "])
def test_the_authorization_header_carries_a_token_whatever_the_case_of_its_scheme(authorization: str) -> None:
    assert find_token({"authorization": authorization}, {}, []) == ("abc.def", [])


@pytest.mark.parametrize("authorization", ["Basic dXNlcjpwYXNz", "Bearer", "Bearer ", "Bearerabc", "Digest Bearer", ""])
def test_another_scheme_or_an_empty_one_carries_nothing(authorization: str) -> None:
    assert find_token({"authorization": authorization}, {}, ["wamp.2.json"]) == (None, ["wamp.2.json"])


def test_the_query_carries_a_token() -> None:
    assert find_token({}, {"token": ["one"]}, []) == ("one", [])


def test_a_subprotocol_carries_a_token_and_is_not_left_to_choose_from() -> None:
    offered = ["wamp.2.json", f"{SUBPROTOCOL}one", "nexus.v1.json", f"{SUBPROTOCOL}two", "nexus.bearer"]
    assert find_token({}, {}, offered) == ("one", ["wamp.2.json", "nexus.v1.json", "nexus.bearer"])


def test_the_first_carrier_wins_in_the_order_header_query_subprotocol() -> None:
    headers, parameters, offered = {"authorization": "Bearer h"}, {"token": ["q", "r"]}, [f"{SUBPROTOCOL}s"]
    assert find_token(headers, parameters, offered)[0] == "h"
    assert find_token({}, parameters, offered)[0] == "q"
    assert find_token({}, {"token": [""]}, offered)[0] == "s"
    assert find_token({}, {}, [SUBPROTOCOL]) == (None, [])


@given(st.lists(st.text(max_size=20) | st.text(max_size=20).map(lambda text: SUBPROTOCOL + text), max_size=6))
def test_no_token_is_ever_left_among_the_subprotocols(offered: list[str]) -> None:
    """Property: what is left is what was offered without the carriers, in the same order."""
    left = find_token({}, {}, offered)[1]
    assert left == [name for name in offered if not name.startswith(SUBPROTOCOL)]


@pytest.mark.parametrize("text", ["a", "aZ09-._~+/==", "!~", "x" * MAX_TOKEN])
def test_printable_ascii_can_be_a_token(text: str) -> None:
    assert is_token(text)


@pytest.mark.parametrize("text", ["", " ", "a b", "a\n", "\x00", "\x7f", "é", "\ud800", "x" * (MAX_TOKEN + 1)])
def test_nothing_else_can(text: str) -> None:
    assert not is_token(text)
