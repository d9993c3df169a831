"""The bus for each address."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from nexus_tw.bus import open_bus
from nexus_tw.bus.memory import MemoryBus
from nexus_tw.bus.redis.bus import RedisBus
from nexus_tw.model.errors import ConfigError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import History, Kept

PLUGIN = '''
"""Buses of a user's own."""

from nexus_tw.bus.memory import MemoryBroker, MemoryBus

def opened(url, reactor, metrics, node, realm):
    bus = MemoryBus(MemoryBroker(reactor), node)
    bus.called_with = (url, node, realm)
    return bus

class OldBus:
    """Of the time before histories."""

    def __init__(self):
        self.node, self.available = "n", True

    def start(self, listener): ...
    def stop(self): ...
    def publish(self, event_type, data, done, metadata=b""): ...
    def subscribe(self, pattern, done): ...
    def unsubscribe(self, pattern): ...
    def send(self, node, body, done): ...

def old(url, reactor, metrics, node, realm):
    return OldBus()

class StiffBus:
    __slots__ = ("node", "available")
    __init__ = OldBus.__init__
    start, stop, publish, send = OldBus.start, OldBus.stop, OldBus.publish, OldBus.send
    subscribe, unsubscribe = OldBus.subscribe, OldBus.unsubscribe

def stiff(url, reactor, metrics, node, realm):
    return StiffBus()

def keeping(url, reactor, metrics, node, realm):
    bus = OldBus()
    bus.history = "kept"
    return bus

def tired(url):
    pass

def none(url, reactor, metrics, node, realm):
    return {}
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[None]:
    """An installed package that offers a bus under the scheme `carrier-pigeon`."""
    (tmp_path / "pigeons.py").write_text(PLUGIN)
    metadata = tmp_path / "pigeons-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: pigeons\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        "[nexus.buses]\ncarrier-pigeon = pigeons:opened\nlost-pigeon = pigeons:gone\n"
        "old-pigeon = pigeons:old\nstiff-pigeon = pigeons:stiff\n"
        "keeping-pigeon = pigeons:keeping\ntired-pigeon = pigeons:tired\nno-pigeon = pigeons:none\n"
    )
    sys.path.insert(0, str(tmp_path))
    yield
    sys.path.remove(str(tmp_path))
    sys.modules.pop("pigeons", None)


def test_the_scheme_says_which_bus() -> None:
    """`memory:` and the forms of Redis come with Nexus; nothing is connected yet."""
    for url in ("memory:", "MEMORY:"):
        assert isinstance(open_bus(url, Clock(), Metrics(), "n"), MemoryBus)
    for url in ("redis://h", "rediss://h", "redis+sentinel://h/m", "unix:///p", "REDIS://h"):
        bus = open_bus(url, Clock(), Metrics(), "n")
        assert isinstance(bus, RedisBus)
        assert bus.node == "n"
        assert not bus.available


def test_an_installed_package_can_offer_a_bus(plugin: None) -> None:
    """The entry point of the scheme's name is called with what `open_bus` was called with."""
    url = "carrier-pigeon:loft"
    opened: Any = [open_bus(url, Clock(), Metrics(), "n"), open_bus(url, Clock(), Metrics(), "n", "r")]
    assert [bus.called_with for bus in opened] == [(url, "n", "nexus"), (url, "n", "r")]


def test_a_bus_that_knows_of_no_history_has_none_and_one_that_keeps_one_is_left_alone(plugin: None) -> None:
    assert open_bus("old-pigeon:", Clock(), Metrics(), "n").history is None
    keeping: Any = open_bus("keeping-pigeon:", Clock(), Metrics(), "n")
    assert keeping.history == "kept"
    with pytest.raises(ConfigError, match=r"which is not a bus .*history"):
        open_bus("stiff-pigeon:", Clock(), Metrics(), "n")


def test_the_memory_bus_keeps_what_the_settings_say(plugin: None) -> None:
    for history, kept in (
        (None, False),
        (History(count=0), False),
        (History(), True),
        (History(count=0, patterns={"a": Kept(count=1)}), True),
    ):
        assert (open_bus("memory:", Clock(), Metrics(), "n", history=history).history is not None) is kept


def test_a_bus_that_cannot_be_loaded_is_refused_by_key(plugin: None) -> None:
    """What is wrong with a package is told with the key that names it."""
    with pytest.raises(ConfigError, match=r"^bus\.url: the bus for 'lost-pigeon': 'pigeons:gone' cannot be imported: .*gone"):
        open_bus("lost-pigeon:", Clock(), Metrics(), "n")
    with pytest.raises(ConfigError, match=r"^bus\.url: .*'tired-pigeon': .* is tired\(url\), but a factory of buses is called"):
        open_bus("tired-pigeon:", Clock(), Metrics(), "n")
    with pytest.raises(ConfigError, match=r"^bus\.url: .* made a dict, which is not a bus \(IBus of .*\): .*start") as told:
        open_bus("no-pigeon:secret", Clock(), Metrics(), "n")
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    "url", ["", "redis", "memory:x", "kafka://:secret@h", "redis://:secret@h:x", "rediss://:secret@h?ca=/nowhere/secret.pem"]
)
def test_an_unusable_address_is_refused_by_key_without_its_secrets(url: str) -> None:
    """The error names `bus.url` and quotes nothing that follows the scheme."""
    with pytest.raises(ConfigError, match=r"^bus\.url: ") as caught:
        open_bus(url, Clock(), Metrics(), "n")
    assert "secret" not in str(caught.value)


def test_a_file_without_certificates_is_refused(tmp_path: Path) -> None:
    """A file of authorities in which there are none is a mistake, not a reason to trust the system's."""
    empty = tmp_path / "ca.pem"
    empty.write_text("nothing")
    with pytest.raises(ConfigError, match=r"^bus\.url: ca: "):
        open_bus(f"rediss://h?ca={empty}", Clock(), Metrics(), "n")
