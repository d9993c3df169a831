"""Membership: which nodes are in the fleet, by their beats, and whether this one still is.

Every node raises its beats in the roll each second and reads the roll by that. Another node becomes a member when it is heard
from, and is buried when its beats have not changed for some seconds. Whoever buries it is its heir. A node that cannot
beat is fenced before the others may bury it. If it was buried all the same, it goes on under another name.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from nexus_tw.fleet.envelopes import Word
from nexus_tw.fleet.legacy import Legacy
from nexus_tw.fleet.names import numbered
from nexus_tw.fleet.parts import Parts
from nexus_tw.fleet.post import Post
from nexus_tw.fleet.watch import Watch
from nexus_tw.interfaces.plugins import LEFT, Beats, Burial, IBus, IRoll
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics

GONE: Final = 1000  # nodes that are known to be gone; the oldest are forgotten


class Pace(NamedTuple):
    """Seconds: between beats, without a change of them until a node is buried, without an acknowledged one until this node is
    fenced. A node must be fenced before others bury it."""

    beat: float = 1.0
    silence: float = 6.0
    fence: float = 4.0


PACE: Final = Pace()


class Membership:
    """This node and the other members."""

    _log = Logger()

    def __init__(
        self,
        bus: IBus,
        clock: IReactorTime,
        post: Post,
        parts: Parts,
        metrics: Metrics,
        pace: Pace,
        realm: str,
        parted: Callable[[str], None],
    ) -> None:
        """`realm` is named in the log. `parted` is told of each node that is no member any more."""
        self.node = post.name
        self.members: dict[str, float] = {}  # when each was seen first
        self.fenced = False
        self.legacy = Legacy(self._settle)
        self._bus = bus
        self._clock = clock
        self._post = post
        self._parts = parts
        self._metrics = metrics
        self._pace = pace
        self._realm = realm
        self._parted = parted
        self._watch = Watch(pace.beat, pace.silence)
        self._number = 1
        self._gone: dict[str, None] = {}
        self._burying: set[str] = set()
        self._timer: IDelayedCall | None = None
        self._fence: IDelayedCall | None = None
        self._due = 0.0  # when the timer is to run
        self._beating = False
        self._own = 0  # the last acknowledged beats, and where they were
        self._epoch = ""
        self._acknowledged: float | None = None  # when the last acknowledged beat was sent
        self._broken: set[str] = set()  # members for which too much waited, to be buried
        self._gives_up = False
        self._refused = False  # the fleet has no room for this node
        self._stopped = False

    def start(self) -> None:
        """Begin to beat, if the bus has a roll."""
        if self._bus.roll is not None and self._timer is None and not self._stopped:
            self._due = self._clock.seconds()
            self._tick()

    def stop(self) -> None:
        """Leave, so that another node takes over at once."""
        roll = self._bus.roll
        if roll is not None and self._timer is not None:
            self._post.flush()
            roll.leave(self.node, _ignored)
            for member in self.members:
                self._post.say(member, Word.FAREWELL)
        self._stopped = True
        for timer in (self._timer, self._fence):
            if timer is not None and timer.active():
                timer.cancel()
        self._timer = self._fence = None
        for member in list(self.members):
            self._post.close(member)
        self._metrics.fleet_members -= len(self.members)
        self.members.clear()

    def check(self) -> None:
        """Notice a pause of this process before anything else follows from what happens after it."""
        if self._acknowledged is not None and not self.fenced:
            silent = self._clock.seconds() - self._acknowledged
            if silent >= self._pace.fence:
                self._warn(
                    "This node was out of touch with the bus for {silent:.1f} s: it stops what others may take over",
                    silent=silent,
                )
                self._set_fenced()

    def break_with(self, member: str) -> None:
        """Part from a member for which too much waits."""
        if member not in self.members or member in self._broken:
            return
        self._post.close(member)
        if self.fenced or not self._bus.available:
            self._gives_up = True
        else:
            self._warn("{node} does not take its mail", node=member)
            self._broken.add(member)
            self._bury(member, None)

    def silent(self, node: str) -> bool:
        return node not in self.members or self._watch.silent(self._clock.seconds(), node)

    # --- from the bus

    def lost(self) -> None:
        self._watch.interrupt()

    def restored(self) -> None:
        self._watch.interrupt()
        self.start()
        self._beat()
        self._post.restored()

    # --- from the post

    def known(self, node: str) -> bool:
        if self._stopped or self._bus.roll is None:
            return False
        if node in self._gone:
            self._post.say(node, Word.BURIED)
            return False
        if node in self.members:
            return False  # they have to part
        self._join(node)
        return True

    def said(self, node: str, word: Word) -> None:
        if word is Word.FAREWELL:
            self._bury(node, LEFT)
        else:
            self._beat()

    # --- beats

    def _tick(self) -> None:
        now = self._clock.seconds()
        if now - self._due > self._pace.beat:
            self._watch.interrupt()
        self._due = now + self._pace.beat
        self._timer = self._clock.callLater(self._pace.beat, self._tick)
        self.check()
        self._beat()
        self._post.beat()

    def _beat(self) -> None:
        roll = self._roll()
        if roll is None or self._beating:
            return
        if self._gives_up:
            if not self.fenced:
                self._set_fenced()
            roll.leave(self.node, _ignored)
            self._rename("Too much mail waited")
            return
        self._beating = True
        roll.beat(self.node, list(self.members), partial(self._read, self.node, self._clock.seconds()))

    def _read(self, name: str, sent: float, answer: Beats | NexusError) -> None:
        """Handle the answer to the beat that was sent at that time under that name."""
        self._beating = False
        self.check()
        if self._stopped or name != self.node:
            return
        if isinstance(answer, NexusError):
            if answer.code == "limit_exceeded" and not self._refused:
                self._refused = True
                self._warn("This node is not in the fleet, and tries each second: {why}", why=answer.message)
            return
        if name in answer.buried:
            if not self.fenced:
                self._set_fenced()
            self._rename("The others had given it up")
            return
        if self._clock.seconds() - sent >= self._pace.fence:
            self._watch.interrupt()  # the answer tells of the time before a pause
            self._beat()
            return
        self._in_touch(sent)
        own = answer.beats.get(name, 0)
        lost = bool(self._epoch) and (answer.epoch != self._epoch or own <= self._own)
        self._epoch, self._own = answer.epoch, own
        if lost:
            self._say("The bus has lost its data, or may have: this node puts its own there again")
            self._parts.renewed()
        for node in answer.buried:
            if node not in answer.legacy:
                self._part(node, False)
        for node in self.legacy.compare(answer.legacy):
            self._part(node, True)
        self._judge(answer)

    def _in_touch(self, sent: float) -> None:
        self._acknowledged = sent
        if self._refused:
            self._refused = False
            self._say("The fleet has room for this node now, as {node}", node=self.node)
        left = max(0.0, sent + self._pace.fence - self._clock.seconds())
        if self._fence is not None and self._fence.active():
            self._fence.reset(left)
        else:
            self._fence = self._clock.callLater(left, self.check)
        if self.fenced:
            self.fenced = False
            self._say("This node is in touch with the bus again, as {node}", node=self.node)

    def _judge(self, answer: Beats) -> None:
        """Greet the nodes that were not heard from yet, and bury the dead."""
        for node in list(self._broken):
            self._bury(node, None)
        for node, beats in answer.beats.items():
            if beats == LEFT or node in self._gone:
                self._bury(node, beats)
            elif node != self.node and node not in self.members:
                self._post.greet(node)
        others = {*answer.beats, *self.members} - {self.node}
        for node, beats in self._watch.observe(self._clock.seconds(), others, answer.beats):
            self._bury(node, beats)

    def _bury(self, node: str, beats: int | None) -> None:
        roll = self._roll()
        if roll is not None and node not in self._burying:
            self._burying.add(node)
            roll.bury(node, beats, self.node, partial(self._buried, node, self.node))

    def _buried(self, node: str, heir: str, answer: Burial | NexusError) -> None:
        self._burying.discard(node)
        if self._stopped or heir != self.node:
            return
        if answer is Burial.MINE:
            self._metrics.fleet_burials += 1
            self._say("{node} was buried: this node takes over", node=node)
            self._part(node, True)
        elif answer is Burial.ANOTHERS:
            self._part(node, False)

    # --- members

    def _join(self, node: str) -> None:
        self.members[node] = self._clock.seconds()
        self._metrics.fleet_members += 1
        self._post.open(node)
        self._say("{node} has joined the fleet", node=node)
        self._parts.joined(node)

    def _part(self, node: str, heir: bool) -> None:
        """A node is gone, perhaps one that was no member."""
        member = self.members.pop(node, None) is not None
        self._gone[node] = None
        if len(self._gone) > GONE:
            del self._gone[next(iter(self._gone))]
        if member:
            self._broken.discard(node)
            self._metrics.fleet_members -= 1
            self._post.close(node)
            self._say("{node} has left the fleet", node=node)
        if heir and node not in self.legacy:
            self.legacy.inherit(node, partial(self._parts.left, node, True))
        elif member:
            self._parts.left(node, False)
        if member:
            self._parted(node)

    def _settle(self, node: str) -> None:
        roll = self._roll()
        if roll is not None:
            roll.settle(node, self.node, _ignored)

    # --- this node

    def _set_fenced(self) -> None:
        self.fenced = True
        self._metrics.fleet_fencings += 1
        self._watch.interrupt()
        self._parts.fenced()

    def _rename(self, why: str) -> None:
        """Go on under another name, as one that knows nobody."""
        for member in list(self.members):
            self.members.pop(member)
            self._metrics.fleet_members -= 1
            self._post.close(member)
            self._parts.left(member, False)
            self._parted(member)
        self.legacy.clear()
        self._broken.clear()
        self._gives_up = False
        self._watch.interrupt()
        self._number += 1
        self.node = self._post.name = numbered(self._bus.node, self._number)
        self._own = 0
        self._warn("{why}: this node is {node} in the fleet now", why=why, node=self.node)
        self._parts.renewed()
        self._beat()

    def _say(self, text: str, **values: object) -> None:
        self._log.info("Realm {realm}: " + text, realm=self._realm, **values)

    def _warn(self, text: str, **values: object) -> None:
        self._log.warn("Realm {realm}: " + text, realm=self._realm, **values)

    def _roll(self) -> IRoll | None:
        return self._bus.roll if self._bus.available else None


def _ignored(_answer: NexusError | None) -> None:
    """The next beat tells what has become of it."""
