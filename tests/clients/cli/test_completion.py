"""Completion in the shells themselves, at a terminal."""

from __future__ import annotations

import os
import pty
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.cli.program import NEXUS, Program

PATIENCE = 30.0  # s for anything that a shell is to show, on a busy machine


class Terminal:
    """A shell at a terminal, into which one types."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self._pid, self._file = pty.fork()
        if not self._pid:
            os.execvpe(command[0], command, env)
        self._said = b""

    def type(self, text: str) -> None:
        os.write(self._file, text.encode())

    def until(self, text: str) -> None:
        """Wait until it has shown this, after what was waited for before."""
        end = time.monotonic() + PATIENCE
        while text.encode() not in self._said:
            assert select.select([self._file], [], [], max(0.0, end - time.monotonic()))[0], f"no {text!r}: {self._said!r}"
            self._said += os.read(self._file, 65_536)
        self._said = self._said.partition(text.encode())[2]

    def end(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._file)


@pytest.fixture
def env(program: Program, tmp_path: Path) -> dict[str, str]:
    """The environment of a shell in which `nexus` is the program."""
    place = tmp_path / "bin"
    place.mkdir()
    (place / "nexus").write_text(f'#!/bin/sh\nexec {shlex.join(NEXUS)} "$@"\n')
    (place / "nexus").chmod(0o755)
    program("context", "add", "preview", "--url", "http://preview.example")
    path = f"{place}:{os.environ['PATH']}"
    return program.env | {
        "PATH": path,
        "HOME": str(tmp_path),
        "TERM": "dumb",
        "PS1": "> ",
        "HISTFILE": str(tmp_path / "history"),
    }


@pytest.fixture(params=["bash", "zsh"])
def terminal(request: pytest.FixtureRequest, env: dict[str, str]) -> Iterator[Terminal]:
    command = {"bash": ["bash", "--noprofile", "--norc", "-i"], "zsh": ["zsh", "-f", "-i"]}[request.param]
    prepare = "autoload -Uz compinit; compinit -u -D; " if request.param == "zsh" else ""
    made = Terminal(command, env)
    made.type(f'{prepare}eval "$(nexus completion {request.param})"; echo rea""dy\n')
    made.until("ready")
    yield made
    made.end()


def test_the_tab_completes_commands_options_and_contexts(terminal: Terminal) -> None:
    terminal.type("nexus stat\t")
    terminal.until("nexus status ")
    terminal.type("--jso\t")
    terminal.until("--json")
    terminal.type(" --context pre\t")
    terminal.until("preview")


def test_fish_completes_commands_options_and_contexts(env: dict[str, str]) -> None:
    lines = ("nexus stat", "nexus status --jso", "nexus status --context pre")
    asked = "; ".join(f"complete -C {shlex.quote(line)}" for line in lines)
    line = f"nexus completion fish | source; {asked}"
    done = subprocess.run(["fish", "--no-config", "-c", line], env=env, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert [each.split("\t")[0] for each in done.stdout.splitlines()] == ["status", "--json", "preview"]
