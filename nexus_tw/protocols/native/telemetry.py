"""Telemetry in messages: a lone sample's members, and messages of several samples or with an early acknowledgement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Raw

from nexus_tw.interfaces.peers import Peer
from nexus_tw.interfaces.realm import SubmittedSample, Verbs
from nexus_tw.model.errors import NexusError, invalid
from nexus_tw.protocols.native import messages


class Sender(Peer, Protocol):
    def send(self, message: messages.ServerMessage) -> None: ...

    def fail(self, error: NexusError, id_: messages.Id = None) -> None: ...


def metrics_of(message: messages.Telemetry) -> Raw:
    """Return the metrics of a message with one sample. Raise `invalid_message` if there are none."""
    if message.metrics is messages.NOTHING:
        raise invalid("metrics", "is missing")
    return message.metrics


def take(verbs: Verbs, sender: Sender, message: messages.Telemetry, now: Callable[[], str]) -> None:
    """Submit a message of several samples, or with `ack: received`, and answer it; `now` returns a timestamp."""
    at_once = message.ack == "received"
    accepted = False

    def answer(stored: int | None = None, duplicates: int | None = None) -> None:
        sender.send(messages.TelemetryAck(timestamp=now(), stored=stored, duplicates=duplicates, id=message.id))

    def done(stored: int | None = None, duplicates: int | None = None) -> None:
        if not at_once:
            answer(stored, duplicates)

    def fail(error: NexusError) -> None:
        if not (at_once and accepted):
            sender.fail(error, message.id)

    samples = message.samples
    if samples is None:
        accepted = verbs.submit(
            sender, message.agent_id, metrics_of(message), message.timestamp, lambda _millis: done(), fail
        )
    elif message.metrics is not messages.NOTHING or message.timestamp is not None:
        raise invalid("samples", "not together with metrics or timestamp")
    else:
        submitted = [SubmittedSample(sample.timestamp, sample.metrics, sample.id) for sample in samples]
        accepted = verbs.submit_batch(sender, message.agent_id, submitted, done, fail)
    if at_once and accepted:
        answer()
