"""The WAMP dialect: messages to verbs of the core, and what comes back to messages.

A message that is none, or that may not come now, is a protocol violation: ABORT, and the connection is closed. What is wrong
with a request that can be read is told by ERROR. https://wamp-proto.org/wamp_latest_ietf.html
"""

from __future__ import annotations

from nexus_tw.sessions.wamp.dialect import WampDialect

__all__ = ["WampDialect"]
