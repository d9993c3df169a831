"""The journal: what it writes, and that nobody can flood the log with it."""

from __future__ import annotations

from twisted.internet.task import Clock

from nexus_tw.model.metrics import Metrics
from nexus_tw.runtime.client_log import ALL_LINES, LINES, MINUTE, ClientLog
from tests.lines import lines as lines


def test_it_says_who_called_what_with_what_outcome(lines: list[str]) -> None:
    journal = ClientLog("calls", Clock(), Metrics())
    journal.called("alice", "alice", "deploy", "completed", "c-1")
    journal.called("bob", "bob", "deploy", "refused: forbidden")
    journal.refused("10.0.0.1", "it showed no token")
    assert lines == [
        "alice called deploy: completed (c-1)",
        "bob called deploy: refused: forbidden",
        "A client at 10.0.0.1 was refused: it showed no token",
    ]


def test_braces_in_what_a_client_chose_are_no_format(lines: list[str]) -> None:
    ClientLog("calls", Clock(), Metrics()).called("", "{log_level}", "{x}", "completed", "{command_id}")
    assert lines == ["{log_level} called {x}: completed ({command_id})"]


def test_one_key_has_so_many_lines_a_minute_and_others_have_theirs(lines: list[str]) -> None:
    clock, metrics = Clock(), Metrics()
    journal = ClientLog("refusals", clock, metrics)
    for _ in range(10 * LINES):
        journal.refused("10.0.0.1", "no")
    assert len(lines) == LINES + 1
    assert lines[-1] == "Further lines about refusals of 10.0.0.1 are left out for up to a minute"
    assert metrics.log_lines_withheld == {"refusals": 9 * LINES}
    journal.refused("10.0.0.2", "no")
    assert lines[-1] == "A client at 10.0.0.2 was refused: no"
    clock.advance(MINUTE)
    journal.refused("10.0.0.1", "again")
    assert lines[-1] == "A client at 10.0.0.1 was refused: again"


def test_subjects_of_one_account_share_its_lines_and_the_log_shows_the_subject_alone(lines: list[str]) -> None:
    journal = ClientLog("calls", Clock(), Metrics())
    for number in range(3 * LINES):
        journal.called("anonymous 10.0.0.1", f"anonymous-{number}", "x", "completed")
    assert len(lines) == LINES + 1
    assert lines[-1] == f"Further lines about calls of anonymous-{LINES} are left out for up to a minute"


def test_all_keys_together_are_bounded_in_lines_and_in_memory(lines: list[str]) -> None:
    clock, metrics = Clock(), Metrics()
    journal = ClientLog("calls", clock, metrics)
    for number in range(3 * ALL_LINES):
        journal.called(f"subject-{number}", f"subject-{number}", "x", "completed")
    assert len(lines) == ALL_LINES + 1
    assert lines[-1] == "Further lines about calls of all together are left out for up to a minute"
    assert metrics.log_lines_withheld == {"calls": 2 * ALL_LINES}
    assert len(journal._written) <= ALL_LINES + 1
    clock.advance(MINUTE)
    journal.called("subject-0", "subject-0", "x", "completed")
    assert len(lines) == ALL_LINES + 2 and len(journal._written) == 1
