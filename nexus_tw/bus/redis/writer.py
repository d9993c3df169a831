"""Publishes events over one link: into the history if there is one, otherwise plainly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nexus_tw.bus.bounds import Bounds
from nexus_tw.bus.redis.batch import Batch, Done, Form
from nexus_tw.bus.redis.channels import Channels, publish_command
from nexus_tw.bus.redis.connection import Publisher, Put
from nexus_tw.bus.redis.scripts import CANARY, Call, bulk
from nexus_tw.bus.redis.twins import alone
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics


class Writer:
    """Publishes events in their order, those with a history in one call of the script for each turn."""

    def __init__(
        self, publisher: Publisher, channels: Channels, bounds: Bounds, metrics: Metrics, form: Form | None
    ) -> None:
        """`form` writes the calls of the script; None without a history."""
        self._publisher = publisher
        self._channels = channels
        self._bounds = bounds
        self._metrics = metrics
        self._form = form
        self._batch: Batch | None = None
        self._put: Put | None = None

    def publish(self, event_type: str, data: bytes, metadata: bytes, done: Done) -> None:
        if self._form is not None and self._bounds.of(event_type) is not None:
            self._keep(self._form, event_type, data, metadata, done)
            return

        def answered(reply: Any) -> None:
            done(None if type(reply) is int else reply)

        event = publish_command(self._channels.event_head(event_type), data)
        if metadata:
            about = publish_command(self._channels.metadata_head(event_type), alone(metadata))
            self._publisher.put_together((about, event), answered)
        else:
            self._publisher.put(event, answered)

    def _keep(self, form: Form, event_type: str, data: bytes, metadata: bytes, done: Done) -> None:
        size = len(data) + len(metadata)
        batch, put = self._batch, self._put
        if batch is None or put is None or not self._publisher.last(put) or not batch.takes(size):
            batch = self._batch = Batch(form)
            put = self._put = self._publisher.put_script(batch.command, batch.answered)
            self._metrics.bus_scripts += 1
        batch.add(event_type, data, metadata, done)
        self._publisher.grow(put, size)


def canaries(
    publisher: Publisher, channels: Channels, timeline: bytes, node: str
) -> Callable[[bytes, Callable[[int | NexusError], None]], None]:
    """Return a function that sends canaries which also check whether the history is still the one that was opened."""
    call, name = Call(CANARY, channels.prefix, timeline), bulk(channels.canary(node))

    def fly(message: bytes, done: Callable[[int | NexusError], None]) -> None:
        publisher.put_script(call.command((), (name, bulk(message))), done, int)

    return fly
