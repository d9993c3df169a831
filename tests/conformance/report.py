"""The fuzzer's report of a run: verdicts, the events of a case, and a summary."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.conformance.expected import Verdict, category

AGENT: Final = "nexus"
WIRE_LINES: Final = 25  # of a failed case


class Report:
    """The report directory of one run (the suite's `outdir`)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        index = directory / "index.json"
        self._index: dict[str, Any] = json.loads(index.read_text()).get(AGENT, {}) if index.exists() else {}

    @property
    def verdicts(self) -> dict[str, Verdict]:
        return {case: Verdict(each["behavior"], each["behaviorClose"]) for case, each in self._index.items()}

    @property
    def seconds(self) -> float:
        """The time spent in cases."""
        return sum(float(each["duration"]) for each in self._index.values()) / 1000

    def story(self, case: str) -> str:
        """Return the events of a case, for debugging."""
        if case not in self._index:
            return f"{case}: not run"
        told: dict[str, Any] = json.loads((self._directory / self._index[case]["reportfile"]).read_text())
        members = ("result", "resultClose", "expected", "received", "remoteCloseCode", "remoteCloseReason", "httpResponse")
        verdict = f"{told['behavior']} / {told['behaviorClose']}"
        lines = [f"{case}: {verdict}", *(f"  {name}: {told.get(name)}" for name in members)]
        wire = told["wirelog"]
        return "\n".join([*lines, f"  wire, the last of {len(wire)} lines:", *(f"    {line}" for line in wire[-WIRE_LINES:])])

    def take(self, later: Report) -> None:
        """Replace the cases that `later` has run again."""
        for case, entry in later._index.items():
            shutil.copy(later._directory / entry["reportfile"], self._directory)
            self._index[case] = entry
        (self._directory / "index.json").write_text(json.dumps({AGENT: self._index}, indent=1, sort_keys=True))


def table(verdicts: Mapping[str, Mapping[str, Verdict]]) -> str:
    """Return the number of cases by transport, category and verdict, as Markdown."""
    categories = sorted({category(case) for each in verdicts.values() for case in each})
    rows = [["way in", *map(str, categories), "all"], ["---"] * (len(categories) + 2)]
    for way, each in verdicts.items():
        counts = [_counted({case: verdict for case, verdict in each.items() if category(case) == one}) for one in categories]
        rows.append([way, *counts, _counted(each)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _counted(verdicts: Mapping[str, Verdict]) -> str:
    counts = Counter(
        verdict.behavior if verdict.behavior == verdict.close else f"{verdict.behavior} / {verdict.close}"
        for verdict in verdicts.values()
    )
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda item: -item[1])) or "-"
