"""Every kind of client, over every kind of listener, through every life of a connection.

Every kind of listener (tcp, IPv6, ssl, tls, unix, systemd, through nginx and HAProxy) is tried with curl, Chromium (a page
and a WebSocket), Node's `ws`, the Python clients and those for WAMP. Every client is held idle past two heartbeats and the
time-out, drained, killed, reset, slowed down and refused: over one way each, or over all with `bin/test --field full`.
"""

from __future__ import annotations

import os

import pytest
import pytest_twisted
from twisted.internet.defer import ensureDeferred

from tests.field import matrix
from tests.field.matrix import Cell
from tests.field.runner import run
from tests.field.wave import Outcome

CELLS = matrix.full() if os.environ.get("NEXUS_TEST_FIELD") == "full" else matrix.short()


@pytest.fixture(scope="session")
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[Cell, Outcome]:
    """The outcomes of all selected cells."""
    parameters = [getattr(item, "callspec", None) for item in request.session.items]
    asked = [each.params["cell"] for each in parameters if each is not None and isinstance(each.params.get("cell"), Cell)]
    found: dict[Cell, Outcome] = pytest_twisted.blockon(ensureDeferred(run(asked, tmp_path_factory.mktemp("field"))))
    return found


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_client_has_this_life_over_this_way(outcomes: dict[Cell, Outcome], cell: Cell) -> None:
    assert not outcomes[cell].troubles, "\n".join(outcomes[cell].troubles)
