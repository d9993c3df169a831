"""The results of cells in earlier runs, stored in a file, so that a run can be continued."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.e2e.server import ROOT
from tests.field.matrix import Cell
from tests.field.wave import Outcome

FILE: Final = ROOT / "artifacts" / "field" / "outcomes.json"


def read(file: Path = FILE) -> dict[str, Outcome]:
    """Return the results by the cell's name."""
    if not file.exists():
        return {}
    return {name: Outcome(*values) for name, values in json.loads(file.read_text()).items()}


def add(outcomes: Mapping[Cell, Outcome], file: Path = FILE) -> dict[str, Outcome]:
    """Store all results so far, including these."""
    known = read(file) | {str(cell): outcome for cell, outcome in outcomes.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(known, indent=1))
    return known
