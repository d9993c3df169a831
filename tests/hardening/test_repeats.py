"""Commands that are asked for again and again: what one small message has the server make, and who pays for it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import pytest_twisted

from nexus_tw.commands import task
from nexus_tw.transport import outbox
from tests.client import frame
from tests.node import Nodes, limited

TARGETS = [str(number) for number in range(task.MAX_TARGETS)]
REPEATS = 100
QUEUE = 1048576


@pytest_twisted.ensureDeferred
async def test_a_command_with_absent_targets_whose_command_id_is_repeated_is_answered_as_far_as_the_answers_are_read(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work, and bytes that wait, are bounded when something is queued and not at the end of the turn. Nobody is closed."""
    node = await nodes(limited(send_queue=QUEUE, bytes_rate=0, subject_bytes_rate=0))
    client = await node.client()
    client.send(type="command", command="x", target=TARGETS, commandId="c")
    answers = [await client.receive() for _ in range(len(TARGETS) + 1)]
    whole = sum(len(msgspec.json.encode(answer)) for answer in answers)
    made = highest = 0
    write, of_one = outbox.Outbox.write, task.CommandRecord._of_one

    def measured(self: outbox.Outbox, data: bytes) -> None:
        nonlocal highest
        write(self, data)
        highest = max(highest, self.waiting() if len(data) > 300 else 0)

    def counted(self: task.CommandRecord, execution: task.Execution) -> Any:
        nonlocal made
        made += 1
        return of_one(self, execution)

    monkeypatch.setattr(outbox.Outbox, "write", measured)
    monkeypatch.setattr(task.CommandRecord, "_of_one", counted)
    again = msgspec.json.encode({"type": "command", "command": "x", "target": TARGETS, "commandId": "c"})
    client.write(frame(1, again) * REPEATS)
    ends: list[str | None] = []
    while len(ends) < REPEATS:
        message = await client.receive()
        if "agentId" not in message:
            ends.append(message.get("code"))
            assert message["commandId"] == "c"
    assert set(ends) == {None, "rate_limited"}
    assert made == ends.count(None) * len(TARGETS)
    assert whole < highest <= QUEUE + whole
    client.send_text(again)
    assert [await client.receive() for _ in answers] == answers, "what waited has been read"
