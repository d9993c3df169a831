"""Parameters of handlers: decoded by their annotations, and refused with their names."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import pytest
from nexus_client.errors import CommandFailed
from nexus_client.parameters import Parameters

if TYPE_CHECKING:
    from fractions import Fraction

    from nexus_client import Call


class Release(msgspec.Struct):
    version: str
    force: bool = False


def deploy(call: object, version: str, count: Annotated[int, msgspec.Meta(ge=1)] = 1, *, mode: Literal["a", "b"] = "a") -> None:
    """A handler."""


def release(call: object, release: Release) -> None:
    """A handler that takes a structure."""


def anything(call: object, name: Any = None, **others: Any) -> None:
    """A handler that takes what comes."""


def nothing(call: object) -> None:
    """A handler that takes nothing."""


def quick(call: Call, version: str) -> Fraction:
    """A handler whose other types are there for the type checker only."""
    raise NotImplementedError


def hidden(call: Call, ratio: Fraction) -> None:
    """A handler that needs a type which is not there when it runs."""


class Methods:
    def bound(self, call: Call, count: int) -> None:
        """A handler that is a method."""

    def __call__(self, call: Call, count: int) -> None:
        """An object that is a handler."""


@pytest.mark.parametrize(
    ("handler", "parameters", "expected"),
    [
        (deploy, {"version": "1"}, {"version": "1"}),
        (deploy, {"version": "1", "count": 2, "mode": "b"}, {"version": "1", "count": 2, "mode": "b"}),
        (release, {"release": {"version": "1"}}, {"release": Release("1")}),
        (anything, {"name": [1], "other": None}, {"name": [1], "other": None}),
        (nothing, {}, {}),
        (nothing, None, {}),
        (quick, {"version": "1"}, {"version": "1"}),
        (Methods().bound, {"count": 1}, {"count": 1}),
        (Methods(), {"count": 1}, {"count": 1}),
        (functools.partial(release), {"release": {"version": "1"}}, {"release": Release("1")}),
    ],
)
def test_right_ones(handler: Callable[..., Any], parameters: Any, expected: dict[str, Any]) -> None:
    assert Parameters(handler).decode(parameters) == expected


@pytest.mark.parametrize(
    ("handler", "parameters", "reason"),
    [
        (deploy, {}, "missing parameter version"),
        (deploy, {"version": 5}, "parameter version: Expected `str`, got `int`"),
        (deploy, {"version": "1", "count": 0}, "parameter count: Expected `int` >= 1"),
        (deploy, {"version": "1", "mode": "c"}, "parameter mode: Invalid enum value"),
        (deploy, {"version": "1", "more": 1}, "unknown parameter more"),
        (deploy, [1], "parameters: expected an object"),
        (release, {"release": {"force": True}}, "parameter release: Object missing required field `version`"),
        (nothing, {"a": 1}, "unknown parameter a"),
        (Methods(), {"count": "1"}, "parameter count: Expected `int`, got `str`"),
    ],
)
def test_wrong_ones(handler: Callable[..., Any], parameters: Any, reason: str) -> None:
    with pytest.raises(CommandFailed, match=reason):
        Parameters(handler).decode(parameters)


def test_handlers_that_cannot_be_called() -> None:
    def without() -> None: ...

    def positional(call: object, other: int, /) -> None: ...

    for handler in (without, positional):
        with pytest.raises(TypeError):
            Parameters(handler)


def test_a_type_that_is_there_for_the_type_checker_only_is_named() -> None:
    with pytest.raises(
        TypeError, match=r"^ratio: its annotation 'Fraction' cannot be evaluated: name 'Fraction' is not defined"
    ):
        Parameters(hidden)
