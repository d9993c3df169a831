"""The shipped conf/haproxy.cfg, run by a real HAProxy; only its ports, paths, servers and check intervals are replaced."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.certificates import issue
from tests.e2e.proxy import Proxy
from tests.e2e.server import ROOT, answers, until

CONF = ROOT / "conf" / "haproxy.cfg"


def render(directory: Path, http: int, https: int, servers: Sequence[int]) -> str:
    """Return the text of haproxy.cfg for `directory`. Each replaced text must occur as often as stated, or the file has
    changed."""
    issued = issue()
    pair = directory / "front.both.pem"
    pair.write_bytes(issued.certificate_pem() + issued.key_pem())
    text = CONF.read_text()
    for old, new, times in (
        ("    log /dev/log local0\n", "    log stdout format raw local0\n", 1),
        # Only root can be somebody else.
        ("    user haproxy\n    group haproxy\n", "", 1),
        ("    maxconn 65536\n", "    maxconn 512\n", 1),
        ("bind :::80 v4v6", f"bind 127.0.0.1:{http}", 1),
        ("bind :::443 v4v6 ssl", f"bind 127.0.0.1:{https} ssl", 1),
        ("/etc/haproxy/nexus.pem", str(pair), 1),
        ("server one 127.0.0.1:3000", f"server one 127.0.0.1:{servers[0]}", 2),
        ("server two 127.0.0.1:3001", f"server two 127.0.0.1:{servers[1]}", 2),
        ("timeout check 2s", "timeout check 500ms", 1),
        ("check inter 2s fastinter 500ms downinter 500ms", "check inter 300ms fastinter 100ms downinter 100ms", 2),
    ):
        assert text.count(old) == times, f"haproxy.cfg has {old!r} {text.count(old)} times"
        text = text.replace(old, new)
    return text


class HAProxy(Proxy):
    """HAProxy with the shipped configuration in front of two servers, given by their ports. Its log is its output."""

    def __init__(self, directory: Path, servers: Sequence[int]) -> None:
        super().__init__("haproxy", directory, "haproxy.cfg", render, servers)

    def test(self) -> subprocess.CompletedProcess[str]:
        """`haproxy -c`"""
        return subprocess.run(["haproxy", "-c", "-f", str(self._conf)], capture_output=True, text=True, check=False, timeout=30)

    def launch(self) -> None:
        self.spawn(["haproxy", "-db", "-f", str(self._conf)], os.environ, self._directory)

    async def start(self) -> None:
        self.launch()
        await until(lambda: answers(self.port), what=f"for haproxy:\n{self.output}")

    @property
    def explained(self) -> str:
        """Its own log lines about servers and requests."""
        return self.output
