"""How a command of `nexus` is run inside a process that has a loop of its own."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from nexus_client.cli.failures import Failure
from nexus_client.cli.running import ENDING, run


@contextmanager
def woken() -> Iterator[socket.socket]:
    """Be woken by signals as a reactor is; gives where their numbers arrive."""
    reading, writing = socket.socketpair()
    with reading, writing:
        for each in (reading, writing):
            each.setblocking(False)
        before = signal.set_wakeup_fd(writing.fileno())
        try:
            yield reading
            assert signal.set_wakeup_fd(before) == writing.fileno()
        finally:
            signal.set_wakeup_fd(before)


@pytest.mark.parametrize("fails", [False, True])
def test_signals_reach_the_process_s_own_loop_again_and_none_is_lost(fails: bool) -> None:
    async def main() -> int:
        signal.raise_signal(signal.SIGCHLD)  # a child of the process ends meanwhile
        if fails:
            raise Failure("it does not work")
        return 1

    handlers = [signal.getsignal(number) for number in ENDING]
    with woken() as numbers:
        try:
            assert run(main()) == 1
        except Failure:
            assert fails
        assert signal.SIGCHLD in numbers.recv(100)
    assert [signal.getsignal(number) for number in ENDING] == handlers
