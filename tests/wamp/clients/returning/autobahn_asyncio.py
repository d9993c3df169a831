"""Autobahn|Python's Component on asyncio."""

from __future__ import annotations

from autobahn.asyncio.component import Component, run

from tests.wamp.clients.returning.autobahn_component import work

if __name__ == "__main__":
    work(Component, run)
