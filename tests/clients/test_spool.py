"""The spool: durable, bounded, in order, given out once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from nexus_client.core.options import Sample
from nexus_client.spool import Spool


def samples(*numbers: int, size: int = 2) -> list[Sample]:
    return [Sample(f"s{n}", "a-1", "2026-01-31T12:00:00.000Z", b'{"cpu":' + b"1" * size + b"}") for n in numbers]


def ids(found: list[Sample]) -> list[str]:
    return [sample.id for sample in found]


@pytest.fixture(params=["file", "memory"])
def spool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool.db" if request.param == "file" else None, samples=5, size=2000)
    spool.open()
    yield spool
    spool.close()


def test_samples_come_out_in_order_and_once(spool: Spool) -> None:
    assert spool.add(samples(1, 2, 3)) == []
    assert spool.next(2) == samples(1, 2)
    assert ids(spool.next(2)) == ["s3"]
    assert spool.next(2) == []
    spool.add(samples(4))
    assert ids(spool.next(2)) == ["s4"]
    assert len(spool) == 4
    spool.remove(["s1", "s4", "unknown", "s1"])
    assert len(spool) == 2


def test_the_oldest_are_dropped_when_it_is_full(spool: Spool) -> None:
    assert spool.add(samples(1, 2, 3, 4)) == []
    assert spool.add(samples(5, 6, 7)) == ["s1", "s2"]
    assert len(spool) == 5
    assert spool.dropped == 2
    assert ids(spool.next(10)) == ["s3", "s4", "s5", "s6", "s7"]


def test_its_bytes_are_bounded_too(spool: Spool) -> None:
    assert spool.add(samples(1, 2)) == []
    assert spool.add(samples(3, size=1870)) == ["s1", "s2"]
    assert spool.add(samples(4, size=3000)) == ["s3", "s4"]
    assert len(spool) == 0
    assert spool.add(samples(5)) == []


def test_a_batch_is_added_whole_or_not_at_all(spool: Spool) -> None:
    spool.add(samples(1))
    with pytest.raises(OSError, match="UNIQUE"):
        spool.add(samples(2, 1))
    assert len(spool) == 1
    assert ids(spool.next(10)) == ["s1"]


def test_a_file_is_opened_again_with_what_was_not_removed(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    spool.open()
    spool.add(samples(1, 2, 3))
    spool.next(10)
    spool.remove(["s2"])
    spool.close()
    spool.open()
    assert len(spool) == 2
    assert ids(spool.next(10)) == ["s1", "s3"]
    spool.close()


def test_a_file_belongs_to_one_client(tmp_path: Path) -> None:
    one, other = Spool(tmp_path / "spool.db"), Spool(tmp_path / "spool.db")
    one.open()
    with pytest.raises(OSError, match=r"spool\.db cannot be opened: database is locked"):
        other.open()
    one.close()
    other.open()
    other.close()


def test_errors_name_the_path(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database" * 100)
    for path in (tmp_path, tmp_path / "text", tmp_path / "absent" / "spool.db"):
        with pytest.raises(OSError, match=str(path)):
            Spool(path).open()
    with pytest.raises(OSError, match="not open"):
        Spool().add(samples(1))


def test_what_was_added_survives_a_kill(tmp_path: Path) -> None:
    program = """
import sys
from nexus_client.core.options import Sample
from nexus_client.spool import Spool
spool = Spool(sys.argv[1])
spool.open()
for number in range(1000):
    spool.add([Sample(f"s{number}", "a-1", "2026-01-31T12:00:00.000Z", b"{}")])
    print(number, flush=True)
"""
    path = tmp_path / "spool.db"
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(20)]
        os.kill(process.pid, signal.SIGKILL)
    spool = Spool(path)
    spool.open()
    found = ids(spool.next(2000))
    assert found[:20] == [f"s{number}" for number in range(20)]
    assert len(said) == 20
    spool.close()
