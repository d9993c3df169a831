"""What becomes of a command whose driver dies between an answer and the ledger."""

from __future__ import annotations

import pytest

from nexus_tw.commands.following import AGAIN
from nexus_tw.commands.remotes import GATHER
from nexus_tw.protocols.native.messages import CommandCancel, CommandInvocation
from tests.commands.test_fleet import Nodes, caller, outcome
from tests.commands.world import succeed


@pytest.mark.parametrize("heirs", [("two",), ("three",), ("two", "three")])
@pytest.mark.parametrize("read", [True, False])
def test_an_answer_that_a_driver_has_not_written_when_it_dies_is_the_heirs(
    read: bool, heirs: tuple[str, ...]
) -> None:
    nodes = Nodes("one", "two", "three")
    one, two, three = nodes.all.values()
    agent, other = three.agent("a"), two.agent("b")
    nodes.settle()
    one.call(command_id="c", target="a", retries=1, by=caller())
    follower = three.call(command_id="c", target="a", retries=1, by=caller())
    nodes.settle()
    for dies, heir in zip(("one", *heirs), heirs, strict=False):
        nodes.all[dies].linked = False
        if not read:
            nodes.pretended.frozen.add(dies)
        if dies == "one":
            succeed(three, agent, b'"true"')
        nodes.settle(GATHER)
        nodes.kill(dies, heir)
    nodes.settle(AGAIN)
    assert outcome(follower) == "true"
    assert len(agent.got(CommandInvocation)) == 1 and agent.got(CommandCancel) == [] and other.got(CommandInvocation) == []
    nodes.settle(GATHER)
    assert three.fleetwide.guests.kept == (0, 0, 0)
