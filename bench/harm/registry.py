"""The rows by name, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from bench.harm import ordinary
from bench.harm.rows import (
    agents,
    bus,
    calls,
    commands,
    compressed,
    crowds,
    maps,
    meta,
    mixed,
    products,
    publications,
    rawsockets,
    requests,
    rights,
)
from bench.harm.stage import Stage
from nexus_tw.commands.book import MAX_BYTES
from nexus_tw.commands.task import RECORD, TARGET
from nexus_tw.model.names import MAX_BYTES as LONGEST_NAME
from nexus_tw.model.settings import Limits

Play = Callable[[Stage], None]


@dataclass(frozen=True)
class Row:
    """An attack. `who` gives the rights that it needs; `ordinary` is the traffic to which its cost per byte is compared.

    With `redis` the server has one as its bus; with `away` the row suspends it, which affects other clients. `kept` is the
    state that the server keeps by design after the client has left: its maximum in bytes, and a description.
    """

    who: str
    what: str
    play: Play
    ordinary: ordinary.Traffic = ordinary.messages
    redis: bool = False
    away: bool = False
    kept: tuple[int, str] = (0, "")


_SHARE: Final = Limits().share
_BYTES: Final = int(MAX_BYTES * _SHARE)
_HOARD: Final = 2 * _BYTES + 2 * _BYTES // commands.SIZE * RECORD
_TARGETS: Final = int(Limits().commands * _SHARE)

ROWS: Final[dict[str, Row]] = {
    "pipelined": Row("anybody", "12 MB of requests, answers not read", requests.pipelined, ordinary.requests),
    "pipelined-tls": Row("anybody", "the same over TLS", requests.pipelined_in_tls, ordinary.requests),
    "conditions": Row("subscribe, publish", "128 filters of 30 conditions; events of 60 kB", products.conditions),
    "dots": Row("subscribe, publish", "names of 60,000 dots; empty events", products.dots),
    "own-samples": Row("subscribe, telemetry", "the same about samples of 11 kB", products.samples, ordinary.samples),
    "maps-cbor": Row("anybody", "a HELLO of 64 kB with colliding keys, CBOR", maps.cbor),
    "maps-msgpack": Row("anybody", "the same in MessagePack", maps.msgpack),
    "echoed": Row("call", "4 commands to 1,000 absent targets, answers not read", commands.echoed),
    "again": Row("call", "one of them, 200 times", commands.again),
    "targets": Row("call", "4 commands that wait for 1,000 targets", commands.targets),
    "ids": Row("register, telemetry", "60,000 agent ids, and away", agents.ids),
    "posts": Row("publish", "16 POSTs of 240 events at once", publications.posts, ordinary.posts),
    "events": Row("publish", "300 events of 60 kB", publications.events),
    "large": Row("call", "200 commands of 60 kB to one agent", commands.large),
    "answered": Row("call, register", "200 calls of 60 kB, answered in kind", calls.answered),
    "unanswered": Row("call, register", "400 calls of 60 kB in 4 sessions, not answered", calls.unanswered),
    "orphaned": Row("call, register", "4,000 calls of 60 kB in 4 sessions, whose callee goes", calls.orphaned),
    "visits": Row("subscribe", "2,000 clients that come, subscribe and go", crowds.visits, ordinary.connections),
    "hoard": Row(
        "call, two subjects",
        "1,050 commands of 60 kB that wait for a day",
        commands.hoard,
        kept=(_HOARD, "the share of command bytes of two"),
    ),
    "unfinished": Row("anybody", "50 bodies of 1 MiB without their last byte", requests.unfinished, ordinary.posts),
    "crumbs": Row("anybody", "8 bodies in chunks of a byte", requests.crumbs, ordinary.posts),
    "extensions": Row("anybody", "8 bodies with long extensions, 8 with long trailers", requests.extensions, ordinary.posts),
    "fields": Row("anybody", "240 requests of 16 kB with thousands of fields", requests.fields, ordinary.requests),
    "floods": Row("anybody", "400 connections with half a request or none", requests.floods, ordinary.connections),
    "matches": Row("call on the meta API", "2,000 names to match, each another", meta.matches),
    "sessions": Row("call on the meta API", "1,000 questions about 200 sessions", meta.sessions, ordinary.sessions),
    "patterns": Row("subscribe", "1,536 patterns of 124 components", products.patterns),
    "telemetry": Row("own telemetry", "samples of 8 kB as fast as it goes", agents.telemetry, ordinary.samples),
    "frames": Row("anybody with a token", "4 MB of empty pings", compressed.pings),
    "deflated": Row("anybody with a token", "2 MB of compressed pings", compressed.small),
    "inflated": Row("publish", "2,000 compressed events of 120 kB", compressed.large),
    "raw-unread": Row("call, register", "RawSocket: results of 60 kB, not read", rawsockets.unread),
    "raw-pings": Row("anybody", "RawSocket: pings of 16 kB whose pongs are not read", rawsockets.pings),
    "raw-small": Row("anybody with a token", "RawSocket: 1,000,000 empty pings", rawsockets.small),
    "raw-maps": Row("publish", "RawSocket: events of 200 kB with colliding keys, MessagePack", rawsockets.maps),
    "raw-hellos": Row("anybody", "RawSocket: HELLOs of 16 kB with colliding keys, CBOR", rawsockets.hellos),
    "raw-unfinished": Row("anybody", "RawSocket: 200 frames of 16 kB without their last byte", rawsockets.unfinished),
    "redis-wildcards": Row("subscribe, publish", "8,192 patterns on Redis, 2,000 events", bus.wildcards, redis=True),
    "redis-large": Row("publish", "300 events of 60 kB through Redis", publications.events, redis=True),
    "redis-away": Row("publish", "the same while Redis stands still for 5 s", bus.away, redis=True, away=True),
    "impostor": Row("telemetry", "registers nothing under another's agent id", rights.impostor),
    "prober": Row("call on nexus.**", "calls of an agent that an authorizer denies", rights.prober),
    "namesake": Row("call", "another's commandIds, by one of the same name", rights.namesake),
}
MIXED: Final = "mixed"  # followed by a seed: mixed-7


def row(name: str) -> Row:
    """Return the row of this name. Raise `KeyError` if there is none."""
    kind, _, seed = name.partition("-")
    if kind == MIXED and seed.isdecimal():
        kept = _TARGETS * (TARGET + LONGEST_NAME), f"the share of commands: {_TARGETS:,} targets"
        return Row("all but admin", f"6 clients, drawn with seed {seed}", partial(mixed.mixed, seed=int(seed)), kept=kept)
    return ROWS[name]
