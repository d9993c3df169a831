"""A real `twistd nexus` as a child process, on a free port of 127.0.0.1."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import treq
from twisted.internet import reactor
from twisted.internet.task import deferLater

ROOT = Path(__file__).parents[2]
TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]
# Of the tests' own environment nothing may reach the server by chance.
FOREIGN = ("NEXUS_", "REDIS_URL", "PORT")

clock: Any = reactor


PORTS = range(10_000, 32_000)  # below those that the kernel gives to connections that go out


def free_port() -> int:
    """Return a port that is free, and that nothing gets which does not ask for it by its number."""
    while True:
        number = secrets.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", number))
            return number


def answers(port: int) -> bool:
    """Return whether connections to that port of 127.0.0.1 are accepted."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def until(true: Any, seconds: float = 15, what: str = "") -> None:
    """Wait until `true()` returns True; fail after `seconds`."""
    end = clock.seconds() + seconds
    while not true():
        assert clock.seconds() < end, f"waited {seconds} s in vain {what}"
        await deferLater(clock, 0.02)


class Child:
    """A process with its output in a file; whatever starts one must stop it."""

    descriptors: Sequence[int] = ()  # that are left open for it, beside its output
    stdin: int = subprocess.DEVNULL

    def __init__(self, name: str, directory: Path) -> None:
        self._name = name
        self._output = directory / f"{name}.output"
        self._process: subprocess.Popen[bytes] | None = None

    def spawn(self, command: list[str], env: Mapping[str, str], cwd: Path) -> None:
        assert not self.running, f"{self._name} is running already"
        self._hang_up()
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                env=dict(env),
                cwd=cwd,
                stdin=self.stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=self.descriptors,
                start_new_session=True,  # so that what it starts can be ended with it
            )

    def write(self, data: bytes) -> None:
        """Write to its standard input, which must be a pipe."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def output(self) -> str:
        """The text on standard output and standard error, of this run and the earlier ones."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def ended(self, seconds: float = 30) -> int:
        """Wait for the end of the process. Return its exit status, or minus the signal that ended it."""
        await until(lambda: not self.running, seconds, f"for the end of {self._name}:\n{self.output}")
        assert self._process is not None
        return int(self._process.returncode)

    async def stop(self) -> int:
        """Stop it like an administrator: SIGTERM. Return the exit status."""
        if self.running:
            self.signal(signal.SIGTERM)
        return await self.ended()

    async def kill(self) -> None:
        """Kill it, like a power failure: SIGKILL."""
        self.discard()
        await self.ended()

    def discard(self) -> None:
        """End the process and its children at once, in any state; for clean-up without waiting."""
        self._hang_up()
        if self.running:
            os.killpg(self.pid, signal.SIGKILL)
            self.wait(10)

    def _hang_up(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def wait(self, seconds: float) -> None:
        """Wait without the reactor."""
        assert self._process is not None
        self._process.wait(seconds)


class NexusServer(Child):
    """`twistd nexus --listen tcp:PORT:interface=127.0.0.1 ARGS…` with the store in `directory`, where it is started.

    `start` waits until it answers. It may be started again after `stop` or `kill`, on the same port and the same store.
    An admin may use `token`; `twistd` are options of its own. Where to listen is left to `args` and `env` with
    `listen=False`; nobody waits for it then.
    """

    def __init__(
        self,
        directory: Path,
        *args: str,
        env: Mapping[str, str] | None = None,
        token: str = "the-admin-token-of-e2e",
        name: str = "nexus",
        listen: bool = True,
        twistd: Sequence[str] = (),
    ) -> None:
        super().__init__(name, directory)
        self._args = args
        self._twistd = twistd
        self._env = dict(env or {})
        self._directory = directory
        self.database = directory / f"{name}.db"  # unless the environment names another
        self.token = token
        self.port = free_port()
        self._listen = ["--listen", f"tcp:{self.port}:interface=127.0.0.1"] if listen else []
        self.http = f"http://127.0.0.1:{self.port}"
        self.ws = f"ws://127.0.0.1:{self.port}/api/v1/events"

    def launch(self) -> None:
        """Start it without waiting."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        env |= {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default", "NEXUS_TOKEN": self.token, **self._env}
        if "NEXUS_STORE" not in env:
            env["NEXUS_STORE"] = f"sqlite:{self.database}"
        self.spawn([*TWISTD, *self._twistd, "nexus", *self._listen, *self._args], env, self._directory)

    async def ready(self, seconds: float = 60) -> None:
        """Wait until it answers; fail with its output if it ends instead."""
        end = clock.seconds() + seconds
        while not await self._alive():
            assert self.running, f"{self._name} ended:\n{self.output}"
            assert clock.seconds() < end, f"{self._name} does not answer after {seconds} s:\n{self.output}"
            await deferLater(clock, 0.05)

    async def start(self) -> None:
        self.launch()
        await self.ready()

    async def _alive(self) -> bool:
        try:
            answer = await treq.get(f"{self.http}/health/live", timeout=2, persistent=False)
            await treq.content(answer)
        except Exception:
            return False
        return bool(answer.code == 200)
