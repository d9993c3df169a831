"""Parameters of handlers: decoded by their annotations, and refused with their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
import pytest
from nexus_client.errors import CommandFailed
from nexus_client.parameters import Parameters


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


@pytest.mark.parametrize(
    ("handler", "parameters", "expected"),
    [
        (deploy, {"version": "1"}, {"version": "1"}),
        (deploy, {"version": "1", "count": 2, "mode": "b"}, {"version": "1", "count": 2, "mode": "b"}),
        (release, {"release": {"version": "1"}}, {"release": Release("1")}),
        (anything, {"name": [1], "other": None}, {"name": [1], "other": None}),
        (nothing, {}, {}),
        (nothing, None, {}),
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
