"""The Python core does what the transcripts say, as the JavaScript core does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.clients.transcript import run

TRANSCRIPTS = Path(__file__).parents[2] / "clients" / "transcripts"
FILES = sorted(path for path in TRANSCRIPTS.glob("*.json") if path.name != "matching.json")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    run(json.loads(path.read_text()))


def test_there_are_transcripts() -> None:
    assert len(FILES) >= 60
