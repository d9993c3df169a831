"""Servers as processes: started, awaited, pinned, and stopped."""

from __future__ import annotations

import datetime
import ipaddress
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from bench.errors import Unable

ROOT: Final = Path(__file__).parents[1]
PATIENCE: Final = 20.0  # s for a server to start or stop


class Process:
    """A child process with its own children, its output in a file, and a port of its own on 127.0.0.1."""

    def __init__(self, name: str, command: Sequence[str], port: int, directory: Path, env: Mapping[str, str], cpu: int | None):
        self.port = port
        self._name = name
        self._output = directory / f"{name}.output"
        with self._output.open("wb") as output:
            self._child = subprocess.Popen(  # noqa: S603 - commands of our own
                command,
                cwd=directory,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if cpu is not None:
            os.sched_setaffinity(self._child.pid, {cpu})

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the child and its current children."""
        children = Path(f"/proc/{self._child.pid}/task/{self._child.pid}/children").read_text(encoding="ascii")
        return (self._child.pid, *map(int, children.split()))

    def wait(self) -> None:
        """Wait until it listens. Raise `Unable` with the end of its output if it does not."""
        end = time.monotonic() + PATIENCE
        while True:
            if self._child.poll() is not None or time.monotonic() > end:
                output = self._output.read_text(errors="replace")
                self.stop()
                raise Unable(f"{self._name} did not start: {output[-1000:]}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)

    def stop(self) -> None:
        # Killed: the server's work for its clients during shutdown is not measured.
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait(PATIENCE)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


def module(name: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this checkout with this Python."""
    return [sys.executable, "-m", name, *arguments]


def environment(**more: str) -> dict[str, str]:
    """Return the environment of this process, without variables that configure Nexus."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("NEXUS_", "REDIS_URL", "PORT"))}
    return {**ours, "PYTHONPATH": str(ROOT), **more}


def certificate(directory: Path) -> tuple[str, str]:
    """Return the files of a certificate for 127.0.0.1 and of its key; they are made on the first call."""
    files = directory / "certificate.pem", directory / "key.pem"
    if not files[0].exists():
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .sign(key, hashes.SHA256())
        )
        files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        files[0].write_bytes(made.public_bytes(Encoding.PEM))
    return str(files[0]), str(files[1])


def stored(path: Path) -> dict[str, tuple[int, int]]:
    """Return the content of a store of Nexus: for each agent the number of samples, and of different `i` in them."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        rows = connection.execute(
            "SELECT agents.name, count(*), count(DISTINCT json_extract(metrics, '$.i')) "
            "FROM samples JOIN agents ON agents.id = samples.agent GROUP BY agents.id"
        ).fetchall()
    finally:
        connection.close()
    return {name: (count, different) for name, count, different in rows}
