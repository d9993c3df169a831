"""The fleet: the nodes that share a realm's bus, and what they tell each other.

A **part** is a service that exists on each node and works with its counterparts on the others, such as the registry. It says
what its counterparts have to know when they join, and forgets what a node has told it when that node leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

PATIENCE: Final = 2.0  # seconds for the answers to a question
# What may wait for one member, told and not acknowledged.
MAX_WAITING: Final = 65536
MAX_WAITING_BYTES: Final = 16777216


Asked = Callable[[str, bytes, Callable[[bytes], None]], None]
"""Gets a question of the part of the same name on that node, perhaps this one, and what to call once with the answer."""


class Part(Protocol):
    """A service that exists on each node. Its methods must not raise; they are guarded all the same."""

    def received(self, node: str, body: bytes) -> None:
        """Receive what the part of the same name on another node told this one."""

    def joined(self, node: str) -> None:
        """A node is there that knows nothing of this one: tell it what it has to know. Called before anything is received from
        it."""

    def left(self, node: str, heir: bool) -> None:
        """A node is gone and will not come back under this name: forget what it has told. What it was doing for the whole fleet
        is taken over by the `heir`, one node of all; if the heir is lost too, another one is called for the same node.

        With `heir` it may be a node that never joined here, or that left long ago. A part that cannot take over within this
        call asks for time by `Fleet.hold`."""

    def fenced(self) -> None:
        """This node has been out of touch with the bus for so long that the others may soon take over what it does: stop what
        must not be done twice."""

    def renewed(self) -> None:
        """What this node has put on the bus is gone: put it there again, under the present `Fleet.node`. The bus has lost its
        data, or the others had given this node up. In that case its name is new, all others have `left` before this, and those
        that are there are `joined` after it."""


class Fleet(Protocol):
    """The nodes of one realm, as this one sees them. All methods may be called at any time, also while the bus is away."""

    @property
    def node(self) -> str:
        """The name of this node in the fleet, unique for ever. It changes when the others have given this node up."""

    @property
    def members(self) -> Mapping[str, float]:
        """The other nodes, with the time by the clock (s) at which each was seen first."""

    @property
    def fenced(self) -> bool:
        """Whether this node is out of touch with the bus, as parts are told by `Part.fenced`, and not in touch again."""

    def take_part(self, name: str, part: Part, asked: Asked | None = None) -> None:
        """Add a part; `asked` answers its counterparts' questions, if it has any. Called before the bus is started."""

    def tell(self, node: str | None, part: str, body: bytes) -> None:
        """Tell one other member, or all if `node` is None.

        What is told to a member arrives there once and in order, also if the bus is away for a while, unless one of the two
        leaves. What is told to a node that is no member is dropped. A member for which too much waits (`MAX_WAITING`,
        `MAX_WAITING_BYTES`) is given up: it is buried and comes back under another name; if this node is itself out of touch
        with the bus, it gives up its own name. So nothing is ever left out between two names.
        """

    def room(self, node: str, size: int) -> bool:
        """Return whether a member can be told `size` more bytes now; False if it is no member, or has acknowledged nothing for
        some seconds. Ask this where a refusal is possible; a quarter of the room is kept for what must be told."""

    def silent(self, node: str) -> bool:
        """Return whether a node is no member, or has shown no sign of life for some seconds: to wait for its answer is in vain,
        unless it has only stood still for a while."""

    def ask(
        self, nodes: list[str] | None, part: str, body: bytes, done: Callable[[Mapping[str, bytes]], None]
    ) -> None:
        """Ask these nodes, or all if `nodes` is None, this one included. Call `done` once, with the answers by node, when all
        have answered or left, or after `PATIENCE`; perhaps before this returns."""

    def hold(self, node: str) -> Callable[[], None]:
        """Called by a part from within `left` as the heir: return the function to call once what that node was doing is taken
        over. Until all who asked have called theirs, another node does it again if this one is lost. A second call of it does
        nothing."""


