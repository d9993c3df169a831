"""The real program `nexus` as a child process."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

NEXUS = (sys.executable, "-c", "import sys; from nexus_client.cli import main; sys.exit(main())")


def wait_for(true: Callable[[], Any], what: str, seconds: float = 20) -> None:
    """Wait until `true()`; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds} s in vain for {what}"
        time.sleep(0.02)


class Running:
    """A `nexus` that runs, with its output in files, so that no pipe can fill."""

    def __init__(self, command: list[str], env: Mapping[str, str], directory: Path, name: str, stdin: str | None) -> None:
        self._out, self._err = directory / f"{name}.out", directory / f"{name}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command, env=dict(env), cwd=directory, stdout=out, stderr=err, stdin=subprocess.PIPE, start_new_session=True
            )
        assert self.process.stdin is not None
        if stdin is not None:
            self.process.stdin.write(stdin.encode())
        self.process.stdin.close()

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def records(self) -> list[Any]:
        """Return the JSON of each whole line on standard output."""
        return [json.loads(line) for line in self.out.split("\n")[:-1]]

    def until(self, true: Callable[[], Any], what: str) -> None:
        """Wait until `true()`; fail at once if the program ends before."""
        wait_for(lambda: true() or self.process.poll() is not None, f"{what}; so far {self.out!r}, {self.err!r}")
        assert true(), f"ended with {self.process.returncode} before {what}: {self.out!r}, {self.err!r}"

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        self.process.send_signal(number)

    def ended(self, seconds: float = 20) -> int:
        """Wait for the end. Return the exit status; no traceback has been printed."""
        status = self.process.wait(seconds)
        assert "Traceback" not in self.err, self.err
        return status


class Program:
    """Starts `nexus` with an environment of its own."""

    def __init__(self, directory: Path, env: Mapping[str, str]) -> None:
        self._directory = directory
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("NEXUS_")} | dict(env)
        self._started: list[Running] = []

    def start(self, *arguments: str, stdin: str | None = None) -> Running:
        running = Running([*NEXUS, *arguments], self.env, self._directory, f"run-{len(self._started)}", stdin)
        self._started.append(running)
        return running

    def __call__(self, *arguments: str, stdin: str | None = None, status: int = 0) -> Running:
        """Run it to its end, with this exit status."""
        running = self.start(*arguments, stdin=stdin)
        got = running.ended()
        assert got == status, f"{got} instead of {status}: {running.out}{running.err}"
        return running

    def shell(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a line of bash in which `nexus` is the program."""
        defined = f'nexus() {{ "{NEXUS[0]}" -c "{NEXUS[2]}" "$@"; }}\n'
        return subprocess.run(
            ["bash", "-c", defined + line],
            env=self.env,
            cwd=self._directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    def on_terminal(self, *arguments: str, interrupted_at: str = "") -> str:
        """Run it to its end on a pseudo terminal of 100 columns, or interrupt it once it has shown `interrupted_at`. Return all
        that the terminal was sent."""
        master, slave = pty.openpty()
        env = self.env | {"COLUMNS": "100", "TERM": "xterm-256color"}
        process = subprocess.Popen([*NEXUS, *arguments], env=env, cwd=self._directory, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        said = b""
        try:
            while select.select([master], [], [], 20)[0]:
                try:
                    chunk = os.read(master, 65_536)
                except OSError:  # EIO: the other end is closed
                    break
                said += chunk
                if interrupted_at and interrupted_at in said.decode(errors="ignore"):
                    process.send_signal(signal.SIGINT)
                    interrupted_at = ""
            process.wait(20)
        finally:
            process.kill()
            os.close(master)
        return said.decode()

    def end(self) -> None:
        """End whatever still runs, with its children."""
        for running in self._started:
            if running.process.poll() is None:
                os.killpg(running.process.pid, signal.SIGKILL)
                running.process.wait(10)
