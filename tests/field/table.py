"""The results as Markdown: the outcome of each cell, and the reasons for impossible ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from tests.field.clients import CLIENTS, Client
from tests.field.lives import COMES_BACK, LIVES, Life
from tests.field.matrix import NONSENSE, Cell, nonsense
from tests.field.wave import Outcome
from tests.field.ways import WAYS, Way

Outcomes = Mapping[str, Outcome]
NONE = "-"


def markdown(outcomes: Outcomes) -> str:
    """Return both tables and the reasons."""
    return "\n".join((*_ways(outcomes), "", *_lives(outcomes), "", *reasons(), ""))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _head(first: str, columns: Iterable[object]) -> list[str]:
    names = [first, *map(str, columns)]
    return [_row(names), _row("---" for _ in names)]


def _ways(outcomes: Outcomes) -> Iterator[str]:
    """Yield the table by client and way: the number of successful lives, of all that were tried, and the failed ones."""
    yield from _head("client", (way.about for way in WAYS))
    for client in CLIENTS:
        yield _row((client.library, *(_lived(outcomes, client, way) for way in WAYS)))


def _lived(outcomes: Outcomes, client: Client, way: Way) -> str:
    cells = [cell for cell in (Cell(client, way, life) for life in LIVES) if not nonsense(cell)]
    if not cells:
        return NONE
    tried = [cell for cell in cells if str(cell) in outcomes]
    bad = [cell.life.name for cell in tried if outcomes[str(cell)].troubles]
    return f"{len(tried) - len(bad)} of {len(tried)}" + (f": not {', '.join(bad)}" if bad else "")


def _lives(outcomes: Outcomes) -> Iterator[str]:
    """Yield the table by client and life: the client's behaviour, which is the same over every way."""
    yield from _head("client", (life.title for life in LIVES))
    for client in CLIENTS:
        yield _row((client.library, *(_did(outcomes, client, life) for life in LIVES)))


def _did(outcomes: Outcomes, client: Client, life: Life) -> str:
    cells = [cell for cell in (Cell(client, way, life) for way in WAYS) if not nonsense(cell)]
    if not cells:
        return NONE
    found = [outcomes[str(cell)] for cell in cells if str(cell) in outcomes]
    good = [outcome for outcome in found if not outcome.troubles]
    if not good:
        return "fails" if found else "not tried"
    words = "; ".join(dict.fromkeys(note for outcome in good for note in outcome.notes))
    back = sorted({f"{outcome.back:.1f}" for outcome in good if outcome.back is not None}, key=float)
    return words.replace(COMES_BACK, f"{COMES_BACK} in {' to '.join(dict.fromkeys((back[0], back[-1])))} s") if back else words


def reasons() -> Iterator[str]:
    """Yield the reasons for impossible cells, and for clients that do not notice an end."""
    yield f"`{NONE}`: there is no such cell, because"
    yield ""
    yield "* nginx and HAProxy pass HTTP on, which RawSocket is not"
    for reason in dict.fromkeys(rule.reason for rule in NONSENSE):
        yield f"* {reason}"
    yield ""
    yield "Particular to a client:"
    yield ""
    for client in CLIENTS:
        if client.remark:
            yield f"* {client.library}: {client.remark}"
