"""What people type: JSON, NAME=VALUE, comparisons, durations. Each error names the argument and the reason."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final, NoReturn

import click

from nexus_client.cli.failures import WrongUsage

_PAIR: Final = re.compile(r"([^\s=<>!{}\[\]\"]+)=(.*)", re.DOTALL)
_COMPARISON: Final = re.compile(r"([^\s=<>!{}\[\]\"]+?)(!=|>=|<=|>|<|=)(.*)", re.DOTALL)
_OPERATORS: Final = {"!=": "ne", ">=": "gte", "<=": "lte", ">": "gt", "<": "lt"}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d|w)?")
_UNITS: Final = {None: 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_LONGEST: Final = 100 * 366 * 86_400.0


def from_json(text: str, what: str) -> Any:
    """Return the value of JSON. Raise `WrongUsage` that says what it was to be, and where it is wrong."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except ValueError as error:
        raise WrongUsage(f"{what}: {_shown(text)} is no JSON: {error}", hint="quote JSON for the shell: '{\"n\": 1}'") from None
    except RecursionError:
        raise WrongUsage(f"{what}: is nested too deeply") from None


def value(text: str) -> Any:
    """Return what a VALUE means: a number, true, false, null or other JSON if it is that, else the text itself."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return text


def pairs(arguments: Iterable[str], what: str) -> dict[str, Any]:
    """Return the object of several NAME=VALUE. Raise `WrongUsage` for one that is none, or a name given twice."""
    found: dict[str, Any] = {}
    for argument in arguments:
        match = _PAIR.fullmatch(argument)
        if match is None:
            raise WrongUsage(f"{what}: {_shown(argument)} is not NAME=VALUE")
        _put(found, match[1], value(match[2]), what)
    return found


def data(arguments: tuple[str, ...], what: str) -> Any:
    """Return what the arguments after a name mean: one JSON value, or an object of NAME=VALUE."""
    if _PAIR.fullmatch(arguments[0]):
        return pairs(arguments, what)
    if len(arguments) > 1:
        raise WrongUsage(f"{what}: give one JSON value, or NAME=VALUE; {_shown(arguments[0])} is not NAME=VALUE")
    return from_json(arguments[0], what)


def where(arguments: Iterable[str]) -> dict[str, Any] | None:
    """Return the filter that several --where mean together; None for none of them.

    Each is a JSON object, or NAME=VALUE, or NAME and VALUE with one of `!= > >= < <=` between.
    """
    found: dict[str, Any] = {}
    for argument in arguments:
        match = _COMPARISON.fullmatch(argument)
        if match is not None:
            name, operator, wanted = match[1], _OPERATORS.get(match[2]), value(match[3])
            if operator is None:
                _put(found, name, wanted, "--where")
            elif isinstance(found.get(name), dict):
                _put(found[name], operator, wanted, f"--where {name}")
            else:
                _put(found, name, {operator: wanted}, "--where")
            continue
        members = from_json(argument, "--where")
        if not isinstance(members, dict):
            raise WrongUsage(f"--where: {_shown(argument)} is neither a JSON object nor NAME=VALUE")
        for name, wanted in members.items():
            _put(found, name, wanted, "--where")
    return found or None


class Seconds(click.ParamType[float]):
    """A duration: a number of seconds, or a number with `s`, `m`, `h`, `d` or `w`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        match = _DURATION.fullmatch(value)
        if match is None or float(match[1]) * _UNITS[match[2]] > _LONGEST:
            self.fail(f"{value!r} is no duration; examples: 90, 30s, 15m, 2h, 7d", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


def _put(found: dict[str, Any], name: str, wanted: Any, what: str) -> None:
    if name in found:
        raise WrongUsage(f"{what}: {name} is given twice")
    found[name] = wanted


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
