"""The present connection, as the parts of the core see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from nexus_client.core.effects import Effect, Send
from nexus_client.core.messages import Message, encode
from nexus_client.core.retry import backoff

Answer = Callable[[float, Message], None]

ID: Final = 32  # bytes of a member `id`, at most
MESSAGE: Final = 262_144  # bytes of a message, until the server says otherwise


class Link:
    """Send messages and hand their replies to those who asked.

    `up`: the server has greeted and no end is in sight. `attempt` is the number of the connection, `limit` the bytes that a
    message may have (0: any number), `clock` the server's clock (seconds since 1970) minus `now`.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self.effects: list[Effect] = []
        self.up = False
        self.attempt = 0
        self.limit = MESSAGE
        self.clock = 0.0
        self._number = 0
        self._answers: dict[int, Answer] = {}

    def number(self) -> int:
        """Return the next number for a request."""
        self._number += 1
        return self._number

    def emit(self, effect: Effect) -> None:
        self.effects.append(effect)

    def send(self, text: str) -> None:
        self.effects.append(Send(text))

    def say(self, **message: Any) -> None:
        """Send a message that has no reply."""
        self.effects.append(Send(encode(message)))

    def ask(self, number: int, text: str, answer: Answer) -> None:
        """Send a message that has this number as `id`; `answer` receives each reply until `settled`."""
        self._answers[number] = answer
        self.effects.append(Send(text))

    def settled(self, number: int) -> None:
        """No reply is wanted any more."""
        self._answers.pop(number, None)

    def answered(self, now: float, message: Message) -> None:
        """Hand over a reply. Replies that nobody waits for are ignored."""
        answer = self._answers.get(message.id) if type(message.id) is int else None
        if answer is not None:
            answer(now, message)

    def again(self, now: float, failures: int) -> float:
        """Return when to repeat, on the same connection, a message that was refused so many times for a while."""
        return now + self._random() * backoff(failures)

    def excess(self, text: str) -> int:
        """Return the bytes of a text that is too long to be sent (also with an `id` that it may still lack), else 0."""
        if not self.limit or len(text) * 4 + ID <= self.limit:
            return 0
        size = len(text.encode())
        return size if size + ID > self.limit else 0

    def down(self) -> None:
        """Nothing more can be sent on this connection. Replies may still come."""
        self.up = False

    def gone(self) -> None:
        """The connection has ended."""
        self.up = False
        self._answers.clear()
