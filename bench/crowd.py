"""Many connections: opened a few at a time, and polled together."""

from __future__ import annotations

import resource
import select
from collections.abc import Iterable, Iterator
from time import monotonic
from types import TracebackType
from typing import Final

from bench.errors import Inexact, Unable
from bench.link import Hello, Link
from bench.target import Target, Time

AT_ONCE: Final = 64

Opening = dict[int, tuple[Iterator[int], int]]  # the steps of each connection, and the poll events that it waits for


class Crowd:
    """The connections of one run and the poll over them; a context manager that closes them all."""

    def __init__(self, target: Target, time: Time) -> None:
        self._address = target.address
        self._handshake = target.dialect.handshake
        self._patience = time.patience
        self._settle = time.settle
        self._poll = select.epoll()
        self.links: dict[int, Link] = {}

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for link in self.links.values():
            link.close()
        self._poll.close()

    def open(self, hellos: Iterable[Hello], at_once: int = AT_ONCE) -> list[Link]:
        """Open one connection for each of `hellos`, in their order, ready for use."""
        opening: Opening = {}
        made: list[Link] = []
        waiting = iter(hellos)
        more = True
        while more or opening:
            while more and len(opening) < at_once:
                hello = next(waiting, None)
                if hello is None:
                    more = False
                else:
                    made.append(self._begin(hello, opening))
            for fd, _ in self.poll() if opening else ():
                self._step(fd, opening)
        return made

    def _begin(self, hello: Hello, opening: Opening) -> Link:
        link = Link(self._address, self._handshake)
        self.links[link.fd] = link
        steps = link.open(hello)
        wanted = next(steps)
        opening[link.fd] = (steps, wanted)
        self._poll.register(link.fd, wanted)
        return link

    def _step(self, fd: int, opening: Opening) -> None:
        if fd not in opening:
            link = self.links[fd]
            if link.frames(link.receive()):
                raise Inexact("a message that nobody asked for")
            return
        steps, before = opening[fd]
        wanted = next(steps, None)
        if wanted is None:
            del opening[fd]
            wanted = select.EPOLLIN
        else:
            opening[fd] = (steps, wanted)
        if wanted != before:
            self._poll.modify(fd, wanted)

    def poll(self) -> list[tuple[int, int]]:
        """Return the connections with data to read. Raise if there is none within the patience of the run."""
        ready = self.glance(self._patience)
        if not ready:
            raise Inexact(f"nothing came for {self._patience:g} s: something is lost")
        return ready

    def glance(self, seconds: float) -> list[tuple[int, int]]:
        """Return the connections with data to read, perhaps none, after at most `seconds`."""
        return self._poll.poll(seconds, 1024)

    def settle(self) -> None:
        """Listen for a while, and check that no further message arrives."""
        end = monotonic() + self._settle
        while (left := end - monotonic()) > 0:
            for fd, _ in self.glance(left):
                link = self.links[fd]
                found = link.frames(link.receive())
                if found:
                    raise Inexact(f"after the end came {found[0][:200]!r}")


def need_descriptors(count: int) -> None:
    """Raise the limit of open files to that needed for `count` connections. Raise `Unable` if that fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + 100
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise Unable(f"needs {needed} open files, the limit is {hard}")
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed if hard == resource.RLIM_INFINITY else hard, hard))
