"""The processes of `bench.harm.bystander`, controlled by the measuring process."""

from __future__ import annotations

import subprocess
import time
from types import TracebackType
from typing import Final

import msgspec

from bench.errors import Unable
from bench.harm.bystander import Report
from bench.processes import PATIENCE, ROOT, environment, module

KINDS: Final = ("ping", "read")

_report: Final = msgspec.json.Decoder(Report)


class Bystanders:
    """One process of each kind, within the context."""

    def __init__(self, port: int) -> None:
        self._children = [
            subprocess.Popen(  # noqa: S603 - commands of our own
                module("bench.harm.bystander", kind, str(port)),
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for kind in KINDS
        ]

    def __enter__(self) -> Bystanders:
        for child in self._children:
            assert child.stdout is not None
            if child.stdout.readline() != b"ready\n":
                raise Unable("the bystanders could not connect")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for child in self._children:
            child.kill()
            child.wait(PATIENCE)
            for pipe in (child.stdin, child.stdout):
                assert pipe is not None
                pipe.close()

    def reports(self) -> tuple[Report, Report]:
        """Return the reports of the pinger and the reader since the last call."""
        pinged, read = (self._ask(child) for child in self._children)
        return pinged, read

    def calm(self, seconds: float) -> tuple[Report, Report]:
        """Discard the reports so far, and return those of the next `seconds`."""
        self.reports()
        time.sleep(seconds)
        return self.reports()

    def _ask(self, child: subprocess.Popen[bytes]) -> Report:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(b"\n")
        child.stdin.flush()
        return _report.decode(child.stdout.readline())
