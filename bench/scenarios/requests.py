"""Requests of the JSON protocol and their answers."""

from __future__ import annotations

from functools import partial

from bench.asker import askers, keep_asking
from bench.crowd import Crowd, need_descriptors
from bench.errors import Inexact
from bench.meter import Measure
from bench.replies import Replies
from bench.target import Target, Time


def telemetry(target: Target, time: Time, connections: int, window: int) -> Measure:
    """Telemetry that is acknowledged once it is stored; messages are acknowledgements. At the end the store must have each
    sample once."""
    metrics = b'{"i":%d,"cpu":45.2,"memory":62.1,"status":"running"}'
    agents = [_agent(number) for number in range(connections)]
    templates = [b'{"type":"telemetry","agentId":"%b","metrics":%b}' % (agent.encode(), metrics) for agent in agents]
    need_descriptors(connections)
    with Crowd(target, time) as crowd:
        asking = askers(crowd, [(template, partial(Replies, kind="telemetry_ack")) for template in templates])
        measure = keep_asking(target, time, crowd, asking, window)
    if target.stored is not None:
        stored = target.stored()
        for agent, asker in zip(agents, asking, strict=True):
            kept = stored.get(agent)
            if kept != (asker.sent, asker.sent):
                raise Inexact(f"{asker.sent} samples of {agent} were acknowledged; kept, and different ones: {kept}")
    return measure


def ping(target: Target, time: Time, connections: int, window: int) -> Measure:
    """The JSON ping; messages are pongs."""
    need_descriptors(connections)
    with Crowd(target, time) as crowd:
        # The number is no part of the protocol; like any unknown member it is ignored.
        asking = askers(crowd, [(b'{"type":"ping","n":%d}', partial(Replies, kind="pong"))] * connections)
        return keep_asking(target, time, crowd, asking, window)


def _agent(number: int) -> str:
    return f"agent-{number:04}"
