"""The judge is judged: what counts as passed, and that a changed suite is not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.expected import ALL, Verdict, basic, quick, right, wrong
from tests.conformance.report import Report, table
from tests.conformance.translation import Changed, cached, translate

GOOD = {case: right(case) for case in ALL}


def test_there_are_517_cases_and_three_are_open_by_design() -> None:
    assert (len(set(ALL)), len(set(quick())), len(set(basic()))) == (517, 361, 246)
    assert [case for case, verdict in GOOD.items() if verdict != ("OK", "OK")] == ["7.1.6", "7.13.1", "7.13.2"]
    assert wrong(GOOD, ALL) == {}


@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        ("1.1.1", Verdict("NON-STRICT", "OK")),
        ("1.1.1", Verdict("OK", "UNCLEAN")),
        ("1.1.1", Verdict("INFORMATIONAL", "INFORMATIONAL")),
        ("12.1.1", Verdict("UNIMPLEMENTED", "OK")),
        ("7.1.6", Verdict("FAILED", "INFORMATIONAL")),
        ("8.1.1", Verdict("OK", "OK")),
    ],
)
def test_no_other_verdict_and_no_other_case_passes(case: str, verdict: Verdict) -> None:
    assert wrong({**GOOD, case: verdict}, ALL) == {case: verdict}


def test_a_case_that_was_not_run_has_not_passed(tmp_path: Path) -> None:
    """The suite exits with 0 and writes a report also where it stopped early, or nobody listened."""
    assert wrong({}, ["1.1.1", "1.1.2"]) == {"1.1.1": None, "1.1.2": None}
    assert Report(tmp_path).verdicts == {}
    assert Report(tmp_path).story("1.1.1") == "1.1.1: not run"


def test_the_summary_counts_by_way_and_category() -> None:
    verdicts = {"one": {"7.1.5": right("7.1.5"), "7.1.6": right("7.1.6")}, "two": {"10.1.1": Verdict("OK", "UNCLEAN")}}
    assert table(verdicts).splitlines()[2:] == [
        "| one | 1 OK, 1 INFORMATIONAL | - | 1 OK, 1 INFORMATIONAL |",
        "| two | - | 1 OK / UNCLEAN | 1 OK / UNCLEAN |",
    ]


def test_python_2_becomes_python_3_and_stays_in_the_cache(tmp_path: Path) -> None:
    source = 'from sibling import x\nimport os\nif {}.has_key("\xff"):\n   print x, 0777'
    (tmp_path / "__init__.py").touch()
    (tmp_path / "sibling.py").touch()
    wanted = 'from .sibling import x\nimport os\nif "\xff" in {}:\n   print(x, 0o777)\n'
    assert translate("module", source, tmp_path / "module.py") == wanted
    for _ in range(2):
        assert cached("module", source, tmp_path / "module.py", tmp_path / "cache") == wanted
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_release_without_what_is_to_be_replaced_is_refused() -> None:
    with pytest.raises(Changed, match=r"autobahntestsuite\.case\.case: .* is there 0 times instead of 1"):
        translate("case.case", "import pickle\n", Path("case.py"))
