"""The parameters of a command, decoded by the annotations of its handler."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, get_type_hints

import msgspec

from nexus_client.errors import CommandFailed

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Parameters:
    """What a handler takes beside `call`, its first argument.

    Each parameter is converted to its annotation (msgspec: strict, so that "5" is no number); without an annotation it may be
    any JSON. A handler with `**others` takes what it does not name, as it is. Raise `TypeError`, naming the parameter, if an
    annotation cannot be evaluated; that of `call` need not be.
    """

    def __init__(self, handler: Callable[..., Any]) -> None:
        signature = inspect.signature(handler)
        first, *others = signature.parameters.values() if signature.parameters else (None,)
        if first is None or first.kind not in (*_NAMED, inspect.Parameter.POSITIONAL_ONLY):
            raise TypeError("a handler takes the call as its first argument")
        self._types: dict[str, Any] = {}
        self._needed: set[str] = set()
        self._open = False
        for parameter in others:
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                self._open = True
            elif parameter.kind in _NAMED:
                self._types[parameter.name] = _type(handler, parameter)
                if parameter.default is inspect.Parameter.empty:
                    self._needed.add(parameter.name)
            else:
                raise TypeError(f"{parameter.name}: a handler's parameters are given by name")

    def decode(self, parameters: Any) -> dict[str, Any]:
        """Return the arguments by name. Raise `CommandFailed`, naming the parameter, if one is wrong, missing or unknown."""
        given = {} if parameters is None else parameters
        if not isinstance(given, dict):
            raise CommandFailed("parameters: expected an object")
        if missing := sorted(self._needed - given.keys()):
            raise CommandFailed(f"missing parameter {missing[0]}")
        arguments: dict[str, Any] = {}
        for name, value in given.items():
            if name in self._types:
                try:
                    arguments[name] = msgspec.convert(value, self._types[name])
                except msgspec.ValidationError as error:
                    raise CommandFailed(f"parameter {name}: {error}") from None
            elif self._open:
                arguments[name] = value
            else:
                raise CommandFailed(f"unknown parameter {name}")
        return arguments


def _type(handler: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """Return the type that a parameter is annotated with, evaluated where the handler was defined."""
    if parameter.annotation is inspect.Parameter.empty:
        return Any
    holder = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    try:
        return get_type_hints(holder, _globals(handler), include_extras=True)[parameter.name]
    except NameError as error:
        raise TypeError(
            f"{parameter.name}: its annotation {parameter.annotation!r} cannot be evaluated: {error}. The types of a handler's "
            "parameters are needed when it runs: import them outside of `if TYPE_CHECKING`, and define them in the module"
        ) from None


def _globals(handler: Callable[..., Any]) -> dict[str, Any]:
    """Return the names of the module in which a handler was defined."""
    function = inspect.unwrap(handler)
    while isinstance(function, functools.partial):
        function = inspect.unwrap(function.func)
    found = getattr(function, "__globals__", None) or getattr(type(function).__call__, "__globals__", {})
    return dict(found)
