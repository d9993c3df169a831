"""Some seconds of the fuzzer, and that it would say what it is there for. For longer: `python -m tests.fuzz --minutes 60`."""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted

from tests.conftest import LONG
from tests.e2e.server import ROOT, Child
from tests.fuzz.streams import STREAMS, Stream
from tests.fuzz.target import logged_faults

MINUTES = 10 if LONG else 0.1


@pytest.fixture
def fuzzer(tmp_path: Path) -> Iterator[Child]:
    child = Child("fuzzer", tmp_path)
    yield child
    child.discard()


def run(fuzzer: Child, *arguments: str) -> None:
    fuzzer.spawn([sys.executable, "-m", "tests.fuzz", *arguments], os.environ, ROOT)


@pytest_twisted.ensureDeferred
async def test_a_node_stands_whatever_bytes_come(fuzzer: Child) -> None:
    run(fuzzer, "--minutes", str(MINUTES))
    assert await fuzzer.ended(60 * MINUTES + 60) == 0, fuzzer.output
    assert "rounds from seed" in fuzzer.output


@pytest_twisted.ensureDeferred
async def test_a_node_that_does_not_stand_is_told_with_the_seed(fuzzer: Child) -> None:
    """One whose log cannot be read as such stands for all that can be found."""
    run(fuzzer, "--log", "text", "--seed", "42", "--rounds", "1")
    assert await fuzzer.ended(60) == 1, fuzzer.output
    assert "seed 42: in the log: " in fuzzer.output
    assert "python -m tests.fuzz --seed 42 --rounds 1" in fuzzer.output


@pytest.mark.parametrize("stream", STREAMS)
def test_the_same_seed_sends_the_same_bytes(stream: Stream) -> None:
    for seed in range(200):
        assert stream(random.Random(seed), "token") == stream(random.Random(seed), "token")
    assert stream(random.Random(1), "token") != stream(random.Random(2), "token")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (json.dumps({"level": "info", "message": "a"}), False),
        (json.dumps({"level": "warn", "message": "a"}), False),
        (json.dumps({"level": "error", "message": "a"}), True),
        (json.dumps({"level": "critical", "message": "a"}), True),
        (json.dumps({"level": "info", "message": "a", "traceback": "b"}), True),
        ("Traceback (most recent call last):", True),
        ("[]", True),
    ],
)
def test_faults_are_found_in_a_log(line: str, fault: bool) -> None:
    fine = json.dumps({"level": "info", "message": "fine"})
    assert list(logged_faults(f"{fine}\n{line}\n{fine}")) == ([line] if fault else [])
