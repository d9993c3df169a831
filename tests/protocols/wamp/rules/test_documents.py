"""The part of the protocol's document that is about WAMP, against the code."""

from __future__ import annotations

import re
from typing import Any, Final

from nexus_tw.model.errors import ERRORS, NexusError
from nexus_tw.protocols.wamp.features import roles
from tests.protocols.wamp.rules.core import World
from tests.test_docs import PROTOCOL, row, rows, section

WAMP: Final = section(PROTOCOL, "## WAMP")


def named(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def test_the_features_told_are_those_announced() -> None:
    table = section(WAMP, "### What is announced")
    for role, announced in roles(remembers=True, retains=True).items():
        assert named(row(table, role)[1]) == list(announced["features"])


def test_only_what_a_bus_need_not_keep_depends_on_it() -> None:
    all_, none = roles(remembers=True, retains=True), roles(remembers=False, retains=False)
    assert all_["dealer"] == none["dealer"]
    own = {"event_history": True, "event_retention": True}
    assert all_["broker"]["features"] == none["broker"]["features"] | own
    assert not own.keys() & none["broker"]["features"].keys()
    assert "event_retention" not in roles(remembers=True, retains=False)["broker"]["features"]


def test_the_procedures_told_are_those_there_are() -> None:
    realm: Any = World().realms["nexus"]
    table = rows(section(WAMP, "### Meta API"))[2:]
    told = {f"{named(cells[0])[0]}{name}" for cells in table for name in named(cells[1])}
    assert told == {name for name in realm._registry._own if name.startswith("wamp.")}


def test_each_error_is_told_with_its_uri() -> None:
    table = rows(section(PROTOCOL, "## Errors"))[2:]
    assert {named(cells[0])[0]: named(cells[4])[0] for cells in table} == {code: kind.wamp for code, kind in ERRORS.items()}


def test_errors_that_have_a_uri_of_their_own_are_told() -> None:
    def all_below(kind: type) -> list[type]:
        found: list[type] = kind.__subclasses__()
        return [*found, *(each for below in found for each in all_below(below))]

    told = {uri for cells in rows(section(WAMP, "### Errors of WAMP"))[2:] for uri in named(cells[0])}
    own = {uri for kind in all_below(NexusError) if isinstance(uri := kind.__dict__.get("uri"), str) and uri}
    assert own <= told
