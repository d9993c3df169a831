"""The field's own tables: nothing is left out without a reason, and the documents have what they have."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.field import matrix, record
from tests.field.clients import CLIENTS
from tests.field.lives import LIVES
from tests.field.matrix import NONSENSE, Cell, nonsense
from tests.field.table import NONE, markdown, reasons
from tests.field.wave import Outcome, Program, Story
from tests.field.ways import WAYS

DOCUMENT = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text()


def named(client: str, way: str = "tcp", life: str = "talks") -> Cell:
    return next(cell for cell in matrix.every() if str(cell) == f"{client}-{way}-{life}")


def test_every_combination_is_a_cell_or_has_a_reason_why_not() -> None:
    cells = set(matrix.full())
    assert all((cell in cells) != bool(nonsense(cell)) for cell in matrix.every())
    assert len(list(matrix.every())) == len(CLIENTS) * len(WAYS) * len(LIVES)


@pytest.mark.parametrize("rule", NONSENSE, ids=lambda rule: f"{rule.client}-{rule.way}-{rule.life}")
def test_every_reason_is_that_of_a_cell(rule: matrix.Nonsense) -> None:
    assert any(nonsense(cell) == rule.reason for cell in matrix.every())


def test_the_short_form_has_each_client_each_way_and_each_life() -> None:
    cells = matrix.short()
    assert len(cells) == len(set(cells)) and set(cells) <= set(matrix.full())
    assert {cell.client for cell in cells} == set(CLIENTS)
    assert {cell.way for cell in cells} == set(WAYS)
    assert {(cell.client, cell.life) for cell in cells} == {(cell.client, cell.life) for cell in matrix.full()}


def test_every_kind_of_listener_is_tried_with_curl_chromium_ws_and_the_python_clients() -> None:
    cells = {str(cell) for cell in matrix.short()}
    for way in ("tcp", "tls", "ssl", "unix", "systemd", "nginx"):
        for client in ("curl", "chromium", "ws", "websockets", "aiohttp"):
            cell = named(client, way)
            assert str(cell) in cells or nonsense(cell) == "a browser opens no UNIX sockets"


def test_patterns_choose_cells() -> None:
    cells = matrix.chosen(matrix.full(), "xconn*", "tcp|tls", "talks")
    assert [str(cell) for cell in cells] == ["xconn-tcp-talks", "xconn-tls-talks", "xconn-rs-tcp-talks"]


def test_names_of_clients_ways_and_lives_are_unique() -> None:
    for rows in (CLIENTS, WAYS, LIVES):
        assert len({row.name for row in rows}) == len(rows)


def test_the_documents_have_the_table_of_these_clients_ways_and_lives_and_of_these_reasons() -> None:
    head, rows = f"| client | {' | '.join(way.about for way in WAYS)} |", []
    assert head in DOCUMENT
    lines = DOCUMENT[DOCUMENT.index(head) :].splitlines()[2:]
    for client, line in zip(CLIENTS, lines, strict=False):
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        assert name == client.library
        rows.append([cell == NONE for cell in cells])
    assert rows == [[all(nonsense(Cell(client, way, life)) for life in LIVES) for way in WAYS] for client in CLIENTS]
    assert f"| client | {' | '.join(life.title for life in LIVES)} |" in DOCUMENT
    assert "\n".join(reasons()) in DOCUMENT


def test_the_table_says_what_passed_and_what_did_not() -> None:
    good, bad = named("ws"), named("ws", life="drained")
    back = named("wampy", "tls", "killed")
    outcomes = {
        str(good): Outcome([], ["published"]),
        str(bad): Outcome(["was not told"], []),
        str(back): Outcome([], ["comes back"], 0.75),
        str(named("wampy", life="killed")): Outcome([], ["comes back"], 2.0),
    }
    lines = markdown(outcomes).splitlines()
    assert "| Node `ws` | 1 of 2: not drained | 0 of 0" in lines[2]
    assert any(line.startswith("| Node `ws` | published | not tried | fails |") for line in lines)
    assert any("comes back in 0.8 to 2.0 s" in line for line in lines)


def test_what_came_of_cells_is_added_to_what_is_known(tmp_path: Path) -> None:
    file = tmp_path / "field" / "outcomes.json"
    assert record.read(file) == {}
    record.add({named("ws"): Outcome(["trouble"], [])}, file)
    known = record.add({named("ws"): Outcome([], ["said"], 1.5), named("xconn"): Outcome([], [])}, file)
    assert known == record.read(file) == {"ws-tcp-talks": Outcome([], ["said"], 1.5), "xconn-tcp-talks": Outcome([], [])}


def test_a_programs_lines_are_read_once_and_whole(tmp_path: Path) -> None:
    program = Program("client", tmp_path)
    assert program.new() == []
    output = tmp_path / "client.output"
    output.write_text('noise\n{"cell": "a", "event": "open"}\n{"cell": "a", "ev')
    assert program.new() == [{"cell": "a", "event": "open"}]
    with output.open("a") as more:
        more.write('ent": "heard"}\n')
    assert program.new() == [{"cell": "a", "event": "heard"}]


def test_a_client_that_is_deaf_to_an_end_does_not_return_from_it() -> None:
    cells = [cell for cell in matrix.full() if cell.client.name == "autobahn-js-rs"]
    deaf = {str(cell) for cell in cells if not Story(cell).returns}
    assert deaf == {str(cell) for cell in cells if cell.life.name == "killed" or cell.way.unix}
