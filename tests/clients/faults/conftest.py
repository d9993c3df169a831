"""Scenarios of faults for each language. Within a module they run side by side, as most of their time is spent waiting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred

from tests.clients.faults.bed import Bed, Scenario, node_in
from tests.clients.faults.program import COMMANDS
from tests.e2e.server import NexusServer


class SideBySide:
    """Await it with a scenario and a language: then all of the module's scenarios run, and this one's outcome is returned."""

    def __init__(self, chosen: list[tuple[Scenario, str]], directory: Path, node: NexusServer) -> None:
        self._chosen = chosen
        self._directory = directory
        self._node = node
        self._outcomes: dict[tuple[Scenario, str], Deferred[None]] = {}

    async def __call__(self, scenario: Scenario, language: str) -> None:
        if not self._outcomes:
            await self._node.ready()
            for each in self._chosen:
                self._outcomes[each] = ensureDeferred(self._run(*each))
        await self._outcomes[scenario, language]

    async def _run(self, scenario: Scenario, language: str) -> None:
        directory = self._directory / f"{scenario.__name__}-{language}"
        directory.mkdir()
        bed = Bed(directory, language, self._node)
        try:
            await scenario(bed)
        finally:
            bed.discard()

    def discard(self) -> None:
        for outcome in self._outcomes.values():
            outcome.addErrback(lambda _: None)  # of a test that was not asked any more
            outcome.cancel()


@pytest.fixture(scope="session")
def shared_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NexusServer]:
    """A node for all scenarios that do not end it."""
    node = node_in(tmp_path_factory.mktemp("faults"))
    node.launch()
    yield node
    node.discard()


@pytest.fixture(scope="module")
def side_by_side(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, shared_node: NexusServer
) -> Iterator[SideBySide]:
    chosen: list[tuple[Any, Any]] = [
        (item.callspec.params["scenario"], item.callspec.params["language"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module and "side_by_side" in item.fixturenames
    ]
    made = SideBySide(chosen, tmp_path_factory.mktemp("scenarios"), shared_node)
    yield made
    made.discard()


@pytest.fixture(params=COMMANDS)
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)
