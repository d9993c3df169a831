"""`python -m bench nodes`, in short."""

from __future__ import annotations

from bench.nodes.command import measure, told
from bench.nodes.pair import running


def test_every_command_of_each_kind_is_counted_and_has_its_cost() -> None:
    with running() as pair:
        figures = measure(pair, 0, 0.3, 4)
    assert all(figure > 0 for figure in (figures.within, figures.across, figures.rate, figures.alone))
    assert figures.nodes + figures.redis + figures.alone_cpu > 0
    for words in ("within a node", "across", "in Redis", "on one node without Redis"):
        assert words in told([figures])
