"""Exceptions that end a run."""

from __future__ import annotations


class Inexact(Exception):
    """The server violated the protocol: it lost, repeated, misrouted or reordered a message, or sent an invalid one."""


class Unable(Exception):
    """This machine or server cannot run the cell at all; this says nothing about exactness."""
