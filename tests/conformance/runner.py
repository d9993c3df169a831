"""Runs the fuzzing client against a server, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from tests.conformance import expected
from tests.conformance.expected import Verdict
from tests.conformance.report import AGENT, Report
from tests.e2e.server import ROOT, Child

ARTIFACTS: Final = ROOT / "artifacts" / "conformance"
START: Final = 60.0  # s until the first case, with the suite to be translated on a busy machine
RETRIED: Final = 5  # so many cases may be run a second time; when more fail, the machine is not to blame


class Run:
    """Some cases against the server at `url`, with the report in `artifacts/conformance/NAME`."""

    def __init__(self, name: str, url: str, cases: Sequence[str]) -> None:
        self.name = name
        self._url = url
        self._cases = cases
        self.directory = ARTIFACTS / name
        self.retried: list[str] = []

    async def wrong(self) -> dict[str, Verdict | None]:
        """Run the cases, then those that failed once more. Return the cases with an unacceptable verdict.

        The suite's own time limits are short: on a machine with every core busy, single cases exceed them.
        """
        shutil.rmtree(self.directory, ignore_errors=True)
        self.report = Report(self.directory)
        await self._fuzz(self.directory, self._cases)
        self.report = Report(self.directory)
        wrong = expected.wrong(self.report.verdicts, self._cases)
        if wrong and len(wrong) <= RETRIED and set(wrong) <= set(self._cases):
            self.retried = list(wrong)
            for case in wrong:
                print(f"{self.name}, to be run again: {self.report.story(case)}")
            again = self.directory / "again"
            await self._fuzz(again, self.retried)
            self.report.take(Report(again))
            wrong = expected.wrong(self.report.verdicts, self._cases)
        for case in wrong:
            print(f"{self.name}: {self.report.story(case)}")
        return wrong

    async def _fuzz(self, directory: Path, cases: Iterable[str]) -> None:
        directory.mkdir(parents=True)
        cases = list(cases)
        spec = directory / "spec.json"
        server = {"agent": AGENT, "url": self._url, "options": {"version": 18}}
        told = {"outdir": str(directory), "cases": cases, "exclude-cases": [], "exclude-agent-cases": {}, "servers": [server]}
        spec.write_text(json.dumps(told))
        fuzzer = Child("fuzzer", directory)
        fuzzer.spawn([sys.executable, "-m", "tests.conformance.fuzzer", str(spec)], os.environ, ROOT)
        try:
            await fuzzer.ended(START + sum(map(patience, cases)))
        finally:
            fuzzer.discard()


def patience(case: str) -> float:
    """Return the seconds that a case adds to the time limit of a run: several times its duration on an idle machine."""
    if expected.category(case) <= 7:
        return 0.5
    return 5.0 if expected.category(case) <= 10 or case.rpartition(".")[2] in expected.SHORT else 15.0
