"""Programs that execute commands: parameters go in as JSON, lines come out as progress, the last one is the result."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from nexus_client.cli.parsing import value

LINE: Final = 131_072  # bytes of a line of output; a message of the protocol holds little more
TAIL: Final = 1_000  # characters of the end of standard error that a failure tells
PARAMETER: Final = 65_536  # bytes of one parameter in the environment; the kernel's own bound is near
PARAMETERS: Final = 262_144  # bytes of all of them
GRACE: Final = 5.0  # s between SIGTERM and SIGKILL
LOOK: Final = 0.02  # s between two looks at who is left of those that were told to end
HOLD: Final = 0.2  # s that a line waits for the end of the program, which makes it the result
LINGER: Final = 1.0  # s that output is read after the program has ended and left it open to others
_OTHER: Final = re.compile(r"[^A-Z0-9]+")


class ProgramFailed(Exception):
    """The program did not succeed; the text is for the caller of the command."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run for a command, and how long it has to end after SIGTERM."""

    arguments: Sequence[str]
    grace: float = GRACE

    async def execute(
        self,
        parameters: Any,
        facts: Mapping[str, str],
        progress: Callable[[Any], Awaitable[None]],
        log: Callable[[str], None],
    ) -> Any:
        """Run it once. Return its result: the last line of its output, as JSON if it is JSON; None without output.

        `facts` are further variables. `progress` gets the lines before it, `log` every line of standard error. Raise
        `ProgramFailed` if it cannot be started or its exit status is not 0. If cancelled, also while it starts, end it with
        its process group: SIGTERM, then SIGKILL.
        """
        starting = asyncio.create_task(self._start(environment(parameters, facts)))
        try:
            transport, protocol = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # It may run already. asyncio would kill it at once, and leave alone what it has started.
            await asyncio.shield(self._abandon(starting))
            raise
        stdin, stdout, stderr = protocol.stdin, protocol.stdout, protocol.stderr
        assert stdin is not None and stdout is not None and stderr is not None
        results, tail = _Results(progress), _Tail(log)
        output = asyncio.create_task(results.read(stdout))
        work = (
            output,
            asyncio.create_task(_feed(stdin, json.dumps(parameters).encode() + b"\n")),
            asyncio.create_task(tail.read(stderr)),
        )
        ended = asyncio.create_task(protocol.exited.wait())
        try:
            await asyncio.wait((ended, output), return_when=asyncio.FIRST_COMPLETED)
            if output.done():
                output.result()  # a line that is too long
            await ended
            # Its output may have been left to a program in the background.
            await asyncio.wait(work, timeout=LINGER)
            status = transport.get_returncode()
        finally:
            await asyncio.shield(self._end(transport.get_pid(), protocol.exited))
            for each in (ended, *work):
                each.cancel()
            await asyncio.gather(ended, *work, return_exceptions=True)
            transport.close()
        if status:
            raise ProgramFailed(tail.text or _ending(self.arguments[0], status))
        return results.last

    async def _start(self, env: dict[str, str]) -> tuple[asyncio.SubprocessTransport, _Watched]:
        loop = asyncio.get_running_loop()
        try:
            return await loop.subprocess_exec(_Watched, *self.arguments, env=env, start_new_session=True)
        except OSError as error:
            raise ProgramFailed(f"cannot start {self.arguments[0]}: {error.strerror}") from None

    async def _abandon(self, starting: asyncio.Task[tuple[asyncio.SubprocessTransport, _Watched]]) -> None:
        """End a program that nobody waits for, as soon as it has started."""
        with contextlib.suppress(ProgramFailed):
            transport, protocol = await starting
            await self._end(transport.get_pid(), protocol.exited)
            transport.close()

    async def _end(self, group: int, exited: asyncio.Event) -> None:
        """End the process group if its first process still runs; the others have as long for their end as that one."""
        if exited.is_set():
            return
        with contextlib.suppress(ProcessLookupError, PermissionError, TimeoutError):
            os.killpg(group, signal.SIGTERM)
            async with asyncio.timeout(self.grace):
                while True:
                    await asyncio.sleep(LOOK)
                    os.killpg(group, 0)  # raises once nobody is left
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
        await exited.wait()


class _Watched(asyncio.subprocess.SubprocessStreamProtocol):
    """The streams of a process, and its end: `Process.wait` also waits for whoever else holds its output open."""

    def __init__(self) -> None:
        super().__init__(65_536, asyncio.get_running_loop())
        self.exited = asyncio.Event()

    def process_exited(self) -> None:
        super().process_exited()
        self.exited.set()


def environment(parameters: Any, facts: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a program: ours without the token, `facts`, and NEXUS_PARAM_NAME of each parameter.

    Text is passed as it is, other values as JSON. What no variable can hold (NUL, too long) is left out; it is in the JSON
    on standard input.
    """
    found = {name: text for name, text in os.environ.items() if name != "NEXUS_TOKEN"} | dict(facts)
    room = PARAMETERS
    for name, member in parameters.items() if isinstance(parameters, dict) else ():
        variable = f"NEXUS_PARAM_{_OTHER.sub('_', name.upper())}"
        text = member if isinstance(member, str) else json.dumps(member)
        size = len(text.encode("utf-8", "surrogatepass"))
        if "\0" in text or size > min(PARAMETER, room) or variable in found or not _is_text(text):
            continue
        room -= size
        found[variable] = text
    return found


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


async def _feed(stdin: asyncio.StreamWriter, content: bytes) -> None:
    """Write to the program; it need not read."""
    with contextlib.suppress(ConnectionError):
        stdin.write(content)
        await stdin.drain()
    with contextlib.suppress(ConnectionError):
        stdin.close()
        await stdin.wait_closed()


class _Results:
    """The lines of a program's output that are not empty. All are progress but one that the program ends with at once."""

    def __init__(self, progress: Callable[[Any], Awaitable[None]]) -> None:
        self._progress = progress
        self._held: str | None = None
        self._told = True
        self._telling = asyncio.Lock()

    @property
    def last(self) -> Any:
        """The last line, as JSON if it is JSON; None if there was none."""
        return None if self._held is None else value(self._held)

    async def read(self, stdout: asyncio.StreamReader) -> None:
        later: asyncio.Task[None] | None = None
        try:
            async for line in _lines(stdout):
                if line.strip():
                    async with self._telling:
                        if later is not None:
                            later.cancel()
                        await self._tell()
                        self._held, self._told = line, False
                    later = asyncio.create_task(self._tell_later())
        finally:
            if later is not None:
                later.cancel()

    async def _tell_later(self) -> None:
        await asyncio.sleep(HOLD)
        async with self._telling:
            await self._tell()

    async def _tell(self) -> None:
        if not self._told:
            self._told = True
            await self._progress(self.last)


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Yield the lines of a stream. Raise `ProgramFailed` for one that is too long."""
    rest = b""
    while chunk := await stream.read(65_536):
        *whole, rest = (rest + chunk).split(b"\n")
        if any(len(line) > LINE for line in (*whole, rest)):
            raise ProgramFailed(f"its output has a line of more than {LINE} bytes")
        for line in whole:
            yield line.decode("utf-8", "replace")
    if rest:
        yield rest.decode("utf-8", "replace")


class _Tail:
    """The end of a program's standard error, which is passed on as it comes."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self.text = ""

    async def read(self, stderr: asyncio.StreamReader) -> None:
        rest = ""
        while chunk := await stderr.read(65_536):
            text = chunk.decode("utf-8", "replace")
            self.text = (self.text + text)[-TAIL:]
            *whole, rest = (rest + text).split("\n")
            for line in whole:
                self._log(line)
            rest = rest[-LINE:]
        if rest:
            self._log(rest)
        self.text = self.text.strip()


def _ending(name: str, status: int) -> str:
    if status < 0:
        return f"{name} was ended by {signal.Signals(-status).name}"
    return f"{name} failed with exit status {status}"
