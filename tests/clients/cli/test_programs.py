"""Programs that execute commands: real shells, their output, their environment, their end."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexus_client.cli import programs
from nexus_client.cli.programs import Program, ProgramFailed, environment


class Execution:
    """One run of a shell's line, with what it told."""

    def __init__(self, line: str, parameters: Any = None, grace: float = 10) -> None:
        self.progress: list[Any] = []
        self.log: list[str] = []
        self._program = Program(["sh", "-c", line], grace)
        self._parameters = {} if parameters is None else parameters

    async def run(self) -> Any:
        async def progress(data: Any) -> None:
            self.progress.append(data)

        return await self._program.execute(self._parameters, {"NEXUS_CALLER": "alice"}, progress, self.log.append)

    def result(self) -> Any:
        return asyncio.run(asyncio.wait_for(self.run(), 20))


def test_lines_are_progress_and_the_last_one_is_the_result() -> None:
    execution = Execution("echo 10; echo; echo 'half done'; echo '{\"at\": 3}'; printf '{\"done\": true}'")
    assert execution.result() == {"done": True}
    assert execution.progress == [10, "half done", {"at": 3}]


def test_a_line_is_progress_as_soon_as_the_program_goes_on_working() -> None:
    execution = Execution("echo working; cat >/dev/null; read go <\"$NEXUS_PARAM_FIFO\"; echo done")

    async def steps(directory: Path) -> Any:
        fifo = directory / "fifo"
        os.mkfifo(fifo)
        execution._parameters = {"fifo": str(fifo)}
        task = asyncio.create_task(execution.run())
        async with asyncio.timeout(20):
            while not execution.progress:
                await asyncio.sleep(0.01)
        assert execution.progress == ["working"]
        await asyncio.to_thread(fifo.write_text, "go\n")
        return await task

    with TemporaryDirectory() as directory:
        assert asyncio.run(steps(Path(directory))) == "done"
    assert execution.progress == ["working"]


@pytest.mark.parametrize(
    ("line", "result"), [("true", None), ("echo some text", "some text"), ("echo 7", 7), ("echo NaN", "NaN")]
)
def test_a_result_is_json_if_it_is_json_else_text(line: str, result: Any) -> None:
    assert Execution(line).result() == result


def test_parameters_are_on_standard_input_and_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("NEXUS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NEXUS_TOKEN", "hush")
    parameters = {"version": "1.2 'x'", "disk.used": 0.5, "list": [1], "deep": {"a": None}}
    line = "cat; env | grep ^NEXUS_ | LC_ALL=C sort"
    execution = Execution(line, parameters)
    last = execution.result()
    assert [*execution.progress, last] == [
        parameters,
        *("NEXUS_CALLER=alice", 'NEXUS_PARAM_DEEP={"a": null}', "NEXUS_PARAM_DISK_USED=0.5"),
        *("NEXUS_PARAM_LIST=[1]", "NEXUS_PARAM_VERSION=1.2 'x'"),
    ]


def test_a_program_need_not_read_its_parameters() -> None:
    assert Execution("exec 0<&-; sleep 0.05; echo 1", {"text": "x" * 500_000}).result() == 1


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("exit 3", "sh failed with exit status 3"),
        ("echo broken >&2; exit 1", "broken"),
        ("echo progress; kill -9 $$", "sh was ended by SIGKILL"),
        ("head -c 200000 /dev/zero | tr '\\0' x; sleep 60", "a line of more than 131072 bytes"),
    ],
)
def test_a_failure_says_what_standard_error_said_last(line: str, says: str) -> None:
    with pytest.raises(ProgramFailed, match=says):
        Execution(line).result()


def test_standard_error_is_passed_on_and_its_end_is_kept() -> None:
    execution = Execution("seq 1000 >&2; printf end >&2; exit 1")
    with pytest.raises(ProgramFailed) as failed:
        execution.result()
    assert execution.log == [*map(str, range(1, 1001)), "end"]
    assert len(str(failed.value)) <= programs.TAIL
    assert str(failed.value).endswith("999\n1000\nend")


def test_a_program_that_is_not_there_is_told() -> None:
    async def progress(_data: Any) -> None:
        raise AssertionError

    with pytest.raises(ProgramFailed, match="cannot start /no/such: No such file"):
        asyncio.run(Program(["/no/such"]).execute({}, {}, progress, print))


def is_there(pid: int) -> bool:
    """Return whether a process still runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def cancelled(execution: Execution, file: Path, count: int) -> list[int]:
    """Cancel an execution as soon as `count` process ids are in the file; return them when it has ended."""
    task = asyncio.create_task(execution.run())
    async with asyncio.timeout(20):
        while not file.exists() or file.read_text().count("\n") < count:
            await asyncio.sleep(0.01)
    task.cancel()
    loop = asyncio.get_running_loop()
    if isinstance(loop, Slow):
        loop.connects.set()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(20):
            await task
    pids = [int(line) for line in file.read_text().split()]
    async with asyncio.timeout(20):  # the children of the one that was waited for
        while any(map(is_there, pids)):
            await asyncio.sleep(0.01)
    return pids


class Slow(asyncio.SelectorEventLoop):
    """A loop in which a program runs already while asyncio still starts it, until `connects` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.connects = asyncio.Event()

    async def connect_write_pipe(self, *arguments: Any) -> Any:
        await self.connects.wait()
        return await super().connect_write_pipe(*arguments)


@pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop, Slow], ids=["while it runs", "while it starts"])
def test_cancelling_ends_the_whole_process_group_with_sigterm(tmp_path: Path, loop: type[asyncio.SelectorEventLoop]) -> None:
    file, farewell = tmp_path / "pids", tmp_path / "farewell"
    name = shlex.quote(str(file))
    trap = f"trap 'echo bye > {shlex.quote(str(farewell))}; exit 0' TERM"
    # What the shell starts tells its own id: before it is another program, it would have the shell's trap.
    other = shlex.quote(f"echo $$ >> {name}; exec sleep 600")
    line = f"{trap}; sh -c {other} & echo $$ >> {name}; wait"
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(cancelled(Execution(line), file, 2))
    assert farewell.read_text() == "bye\n"


def test_what_a_program_has_started_is_killed_if_it_ignores_sigterm_although_the_program_does_not(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    name = shlex.quote(str(file))
    other = shlex.quote(f"trap '' TERM; echo $$ >> {name}; while :; do sleep 0.05; done")
    asyncio.run(cancelled(Execution(f"sh -c {other} & echo $$ >> {name}; wait", grace=0.1), file, 2))


def test_a_program_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    line = f"trap '' TERM; echo $$ >> {shlex.quote(str(file))}; while :; do sleep 0.05; done"
    asyncio.run(cancelled(Execution(line, grace=0.1), file, 1))


def test_a_program_left_in_the_background_does_not_hold_up_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "LINGER", 0.1)
    file = tmp_path / "pid"
    assert Execution(f"sleep 600 & echo $! > {shlex.quote(str(file))}; echo started").result() == "started"
    pid = int(file.read_text())
    assert is_there(pid)
    os.kill(pid, 9)


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=50) | st.integers() | st.none(), max_size=5))
def test_every_parameter_makes_an_environment_that_a_program_can_have(parameters: dict[str, Any]) -> None:
    made = environment(parameters, {})
    for name, text in made.items():
        if name.startswith("NEXUS_PARAM_"):
            assert all(each.isascii() and (each.isalnum() or each == "_") for each in name)
            os.fsencode(text)
            assert "\0" not in text


def test_parameters_in_the_environment_are_bounded() -> None:
    made = environment({f"p{number}": "x" * programs.PARAMETER for number in range(10)} | {"long": "y" * 10**6}, {})
    kept = {name: text for name, text in made.items() if name.startswith("NEXUS_PARAM_")}
    assert sum(map(len, kept.values())) <= programs.PARAMETERS
    assert json.dumps(sorted(kept)) == json.dumps([f"NEXUS_PARAM_P{number}" for number in range(4)])
