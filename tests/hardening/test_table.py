"""The table of attacks in `docs/security.md`."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_table_names_is_there_and_none_of_these_is_missing() -> None:
    named = set(re.findall(r"`(tests/[\w/]+(?:\.py)?)/?`", (ROOT / "docs" / "security.md").read_text()))
    assert all((ROOT / path).exists() for path in named)
    here = {str(path.relative_to(ROOT)) for path in Path(__file__).parent.glob("test_*.py")}
    assert here - named == {"tests/hardening/test_table.py"}
