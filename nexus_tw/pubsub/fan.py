"""The fan-out of one event: its frames, each encoded once, and the cohorts to which its rule applies."""

from __future__ import annotations

from collections.abc import Collection, Hashable

from nexus_tw.interfaces.peers import Encoding
from nexus_tw.model.events import Event, Rule
from nexus_tw.model.notices import ContinuityNotice
from nexus_tw.pubsub.groups import Bucket, Cohort, Subscriber


class Fan:
    """One event on its way to its subscribers."""

    __slots__ = ("_frames", "_left_out", "_rule", "event")

    def __init__(self, event: Event, excluded: Collection[Subscriber]) -> None:
        """`excluded` are the subscribers that the event's rule excludes by session id."""
        self.event = event
        self._rule = event.metadata.rule if event.metadata is not None else None
        # The cohorts with excluded members.
        self._left_out = {subscriber.cohort for subscriber in excluded} if excluded else ()
        self._frames: dict[Hashable, bytes] = {}

    def frame(self, encoding: Encoding, bucket: Bucket) -> bytes:
        """Return the event's frame in this encoding; one for each subscription if the encoding has the id in it."""
        key = encoding.key if encoding.once else (encoding.key, bucket.number)
        frame = self._frames.get(key)
        if frame is None:
            frame = self._frames[key] = encoding.event(self.event, bucket)
        return frame

    def gap(self, encoding: Encoding) -> bytes:
        """Return the notice that replaces an event that could not be encoded."""
        return encoding.notice(ContinuityNotice(self.event.type))

    def rule_for(self, cohort: Cohort) -> Rule | None:
        """Return the event's rule if it may exclude members of the cohort; None if all of them get the event."""
        rule = self._rule
        if rule is None or (rule.by_session and cohort not in self._left_out):
            return None
        return rule
