"""Draws docs/tour.svg, a terminal with the first steps of README.md, from a real run: `python -m tests.e2e.tour_svg`.

The server, the simulated fleet and the commands run as a reader would run them, each in a terminal of its own (a pty, so that
they write in colour); what they print is shown one below the other. Port 3000 must be free.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.e2e.server import FOREIGN, ROOT, TWISTD

PICTURE = ROOT / "docs" / "tour.svg"
README = ROOT / "README.md"
COLUMNS = 120
LINES = 8  # of the events
PATIENCE = 60.0  # s
DEMO = ["demo", "--agents", "5"]
SUBSCRIBE = ["subscribe", "telemetry.*", "task.**", "agent.status"]
COMMAND = ["command", "deploy", '{"version": "1.2.3"}', "--target", "agent-100"]


class Terminal:
    """A program in a terminal of its own."""

    def __init__(self, command: list[str], environ: dict[str, str], directory: Path) -> None:
        self._end, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
        self._process = subprocess.Popen(
            command, env=environ, cwd=directory, stdin=child, stdout=child, stderr=child, start_new_session=True
        )
        os.close(child)
        self.output = ""

    def until(self, pattern: str) -> re.Match[str]:
        """Read until the output matches, and return the match."""
        end = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.output, re.MULTILINE)):
            if time.monotonic() > end or not self._read(0.2):
                raise SystemExit(f"no {pattern!r} in:\n{self.output}")
        return found

    def finish(self) -> str:
        """Read to the end of the program, and return all that it printed."""
        while self._read(PATIENCE):
            pass
        self._process.wait()
        return self.output

    def interrupt(self) -> str:
        """Press Ctrl-C, as it were, and return all that the program printed."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)
        return self.finish()

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._end], [], [], seconds)
        try:
            data = os.read(self._end, 65536) if ready else None
        except OSError:  # Linux says EIO at the end of a terminal
            return False
        self.output += (data or b"").decode().replace("\r\n", "\n")
        return data is None or bool(data)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        draw(Path(name))


def draw(directory: Path) -> None:
    # As in a checkout: the programs are called by their paths in .venv.
    (directory / ".venv").symlink_to(Path(sys.prefix))
    python, nexus = str(directory / ".venv" / "bin" / "python"), str(directory / ".venv" / "bin" / "nexus")
    (agent_code,) = re.findall(r"^```python\n(import asyncio.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)[:1]
    (directory / "agent.py").write_text(agent_code)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    environ |= {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "PYTHONUNBUFFERED": "1"}
    server = Terminal([python, *TWISTD[1:], "nexus"], environ | {"PYTHONPATH": str(ROOT)}, directory)
    try:
        environ["NEXUS_TOKEN"] = server.until(r"NEXUS_TOKEN=(\S+)")[1]
        server.until(r"The token has all rights.*\n")
        demo = Terminal([nexus, *DEMO], environ, directory)
        agent = Terminal([python, "agent.py"], environ, directory)
        agent.until("stored 1")
        watching = Terminal([nexus, *SUBSCRIBE], environ, directory)
        watching.until(r"(?s)(?:telemetry\.received.*){4}")
        command = Terminal([nexus, *COMMAND], environ, directory).finish()
        watching.until(r"task\.updated.*completed")
        events = watching.interrupt()
        demo.interrupt()
        agent.interrupt()
    finally:
        said = server.output
        server.interrupt()
    console = Console(record=True, width=COLUMNS, force_terminal=True, file=StringIO(), highlight=False)
    show(console, "bin/serve", said.replace(str(directory), "~/nexus"))
    show(console, shlex.join([".venv/bin/nexus", *SUBSCRIBE]), "\n".join(events.splitlines()[:LINES]))
    show(console, shlex.join([".venv/bin/nexus", *COMMAND]), command)
    console.save_svg(str(PICTURE), title="Nexus", unique_id="tour")


def show(console: Console, command: str, output: str) -> None:
    console.print(Text(f"$ {command}", style="bold"))
    console.print(Text.from_ansi(output.rstrip("\n")), soft_wrap=False)


if __name__ == "__main__":
    main()
