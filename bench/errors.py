"""What ends a run."""

from __future__ import annotations


class Inexact(Exception):
    """The server did something else than it should: lost, repeated, misrouted or reordered, or spoke wrongly."""


class Unable(Exception):
    """This machine or this server cannot do the cell at all; nothing is known about exactness."""
