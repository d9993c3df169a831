"""The shipped systemd unit, without systemd: its command is run as it stands, with the credentials that systemd would give."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

import pytest_twisted

from tests.e2e.server import ROOT, NexusServer

UNIT = (ROOT / "conf" / "nexus.service").read_text()


def settings(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)


def test_nexus_is_installed_from_the_checkout_or_a_wheel_of_it_and_from_no_index() -> None:
    """There is no such package: whoever registered one would run code on the servers of those who follow the documents."""
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "conf").iterdir()):
        assert not re.search(r"pip install[^\n]*\bnexus(-tw|_tw)?(?![\w/.-])", path.read_text()), path
    assert "pip install /path/to/the/checkout" in UNIT


@pytest_twisted.ensureDeferred
async def test_the_unit_s_user_reads_its_configuration_from_the_credentials(tmp_path: Path) -> None:
    (credential,) = settings("LoadCredential")
    name, _, source = credential.partition(":")
    assert source == "/etc/nexus/nexus.toml"
    (command,) = settings("ExecStart")
    expanded = Template(command).substitute(CREDENTIALS_DIRECTORY=str(tmp_path)).split()
    assert expanded[: expanded.index("nexus")] == ["/opt/nexus/bin/twistd", "-n", "--pidfile="]
    server = NexusServer(tmp_path, *expanded[expanded.index("nexus") + 1 :])
    file = tmp_path / name
    file.write_text("drain = 1\n")
    file.chmod(0o400)
    try:
        await server.start()
    finally:
        server.discard()
