"""Metrics: plain integers, incremented in place and read for each request of `/metrics`.

A labelled counter of a metrics library costs about a microsecond; the cost of an attribute is negligible even in a fan-out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from nexus_tw.model.errors import ERRORS

# The label of each labelled counter, and the label values that are exported as 0 from the start: `increase()` of Prometheus
# misses the first increment of a series that did not exist. Other values are exported once they have been counted.
LABELS: Final[dict[str, tuple[str, tuple[object, ...]]]] = {
    "connections_refused": (
        "reason",
        (
            *("unauthorized", "timeout", "origin", "host", "draining", "handshake"),
            *("connections", "connections_per_address", "connections_per_subject", "connect_rate"),
            *("no_such_realm", "no_matching_auth_method", "authorization_denied", "protocol_violation", "internal"),
        ),
    ),
    "refusals": ("status", (400, 403, 404, 408, 429, 431, 500, 503, 504)),
    "connections_closed": (
        "code",
        (
            *(1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000),
            *(4001, 4002, 4003, 4004, 4005, 4500, 4501, 4502),
        ),
    ),
    "errors": ("code", tuple(ERRORS)),
    "publications_refused": ("code", ("invalid_message", "forbidden", "bus_unavailable")),
    "events_dropped": ("reason", ("outbox", "bus", "too_large", "about", "testament")),
    "authorizer_failures": ("reason", ("timeout", "failed", "busy")),
    "telemetry_refused": ("quota", ("rate", "kept", "agent_rate", "agent_kept")),
    "shares_refused": (
        "pot",
        (
            *("agents", "authorizer_requests", "bodies", "command_bytes", "commands", "filters", "handler_bytes"),
            *("idempotency_bytes", "idempotency_keys", "ledger", "samples", "send_queues", "testaments", "thread_queue"),
            *("waiting_bytes", "wildcards"),
        ),
    ),
    "commands_ended": ("status", ("completed", "failed", "cancelled", "expired")),
    "recoveries": ("outcome", ("complete", "incomplete")),
    "history_trimmed": ("bound", ("count", "age", "bytes", "total", "types")),
    "log_lines_withheld": ("about", ("administration", "calls", "refusals")),
}

# Fields that say what is there now.
GAUGES: Final = (
    *("bus_globs", "cursors", "recovery_buffered", "history_types", "history_events", "history_bytes"),
    *("retained_events", "retained_bytes", "fleet_members", "mail_waiting_bytes", "meta_mirrored"),
    *("ledger_commands", "ledger_bytes", "ledger_waiting"),
    *("registrations_remote", "claims", "guests", "orphans", "outcomes", "outcome_bytes"),
)


@dataclass(slots=True)
class Metrics:
    """Counters, which only increase. In Prometheus their names are `nexus_…_total`."""

    # connections
    connections_opened: int = 0
    connections_refused: Counter[str] = field(default_factory=Counter)  # by reason
    refusals: Counter[int] = field(default_factory=Counter)  # by HTTP status, 408 for slow clients
    connections_closed: Counter[int] = field(default_factory=Counter)  # by close code
    # messages
    messages_received: int = 0
    errors: Counter[str] = field(default_factory=Counter)  # by error code
    reads_paused: int = 0
    messages_queued: int = 0  # waited until an earlier one of the same client took effect
    messages_refused: int = 0  # because too many were queued in this way
    probes_skipped: int = 0  # answered at once, since too many waited for one client's answer to a probe
    shares_refused: Counter[str] = field(default_factory=Counter)  # by budget
    # events
    events_published: int = 0
    events_received: int = 0  # from the bus
    events_delivered: int = 0  # one for each subscriber and event
    publications_refused: Counter[str] = field(default_factory=Counter)  # of unacknowledged ones, by error code
    events_dropped: Counter[str] = field(default_factory=Counter)  # by reason
    # telemetry
    telemetry_stored: int = 0
    telemetry_failed: int = 0
    telemetry_repeated: int = 0
    telemetry_refused: Counter[str] = field(default_factory=Counter)  # by the exhausted quota of the subject or agent
    telemetry_commits: int = 0
    # commands
    commands_started: int = 0
    commands_ended: Counter[str] = field(default_factory=Counter)  # by final status
    commands_late: int = 0  # results and progress of attempts that had ended
    commands_taken_over: int = 0  # from nodes that are gone
    ledger_commands: int = 0
    ledger_bytes: int = 0
    ledger_evicted: int = 0  # since there was no room
    ledger_scripts: int = 0  # calls by which commands were written into Redis
    ledger_waiting: int = 0  # commands with something to write while the ledger is away
    ledger_refused: int = 0  # commands that another node drives now
    audit_dropped: int = 0  # lines of the audit trail for which there was no room while the store failed
    ledger_failed: int = 0  # entries that the store could not keep
    calls: int = 0  # plain calls accepted
    registrations_refused: int = 0  # since callees on other nodes have them
    registrations_remote: int = 0  # callees on other nodes
    registrations_unknown: int = 0  # of other nodes, beyond the bound
    invocations_sent: int = 0  # to callees on other nodes
    claims: int = 0  # patterns that this process has claimed in the fleet
    guests: int = 0  # invocations of other nodes that callees of this process carry out
    orphans: int = 0  # commands of other nodes that have left
    orphans_given_up: int = 0  # commands whose node had left, and which no other node took over
    outcomes: int = 0  # ended commands of other nodes that are kept until these have written that
    outcome_bytes: int = 0  # of their results
    outcomes_given_up: int = 0  # of these, those that exceeded the bound
    threads_full: int = 0  # commands refused because too many waited for a thread
    authorizer_failures: Counter[str] = field(default_factory=Counter)  # by reason
    # bus
    bus_reconnects: int = 0
    bus_invalid: int = 0  # foreign payloads that are not JSON
    bus_globs: int = 0  # subscribed to on Redis, after merging
    bus_scripts: int = 0  # calls by which events were published into the history
    events_adopted: int = 0  # of other programs, that this process has given a place in the history
    # history
    history_types: int = 0
    history_events: int = 0
    history_bytes: int = 0
    history_trimmed: Counter[str] = field(default_factory=Counter)  # by the bound that dropped them
    history_reads: int = 0  # positions from which the history was read
    history_gaps: int = 0  # of these, where something was gone
    # recovery
    cursors: int = 0
    recovery_buffered: int = 0  # bytes of events that wait for a gap to be filled, or for a client that recovers
    recovery_overflows: int = 0  # times that there was no room for these
    recoveries: Counter[str] = field(default_factory=Counter)  # types that clients asked for with `since`, by outcome
    events_replayed: int = 0
    events_filled: int = 0  # that this node had missed, and delivered from the history
    gaps_filled: int = 0
    gaps_told: int = 0
    # retained events
    retained_events: int = 0
    retained_bytes: int = 0
    retained_evicted: int = 0  # since there was no room
    # fleet
    fleet_members: int = 0  # other nodes
    fleet_burials: int = 0  # of other nodes, by this one
    fleet_fencings: int = 0  # times that this node was out of touch with the bus
    mail_sent: int = 0
    mail_resent: int = 0
    mail_waiting_bytes: int = 0  # not acknowledged by the nodes that they are for
    mail_invalid: int = 0
    meta_mirrored: int = 0  # sessions and subscriptions of other nodes, for clients that subscribe to meta events
    # log
    log_lines_dropped: int = 0  # because its reader or disk did not keep up
    log_lines_withheld: Counter[str] = field(default_factory=Counter)  # by topic: too many of one client
