"""A real redis-server for tests: started on a free port with a directory of its own, and always stopped."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import hiredis
import pytest

from tests.e2e.server import free_port

PATIENCE = 10.0  # s for a server to come up, on a busy machine


class RedisServer:
    """One redis-server process. `start` after `kill` or `stop` restarts it on the same port, without its data."""

    scheme = "redis"

    def __init__(
        self,
        password: str | None = None,
        tls: tuple[str, str, str] | None = None,
        options: tuple[str, ...] = (),
        port: int | None = None,
    ) -> None:
        """`tls`: files of certificate, key and authority; the port then accepts TLS only. `options` are appended to the command
        line."""
        self.port = port or free_port()
        self.password = password
        self.options = options
        self.tls = tls
        self.directory = Path(tempfile.mkdtemp(prefix="nexus-redis-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        login = f":{self.password}@" if self.password else ""
        if self.tls:
            return f"rediss://{login}localhost:{self.port}/0?ca={self.tls[2]}"
        return f"redis://{login}127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def command_line(self) -> list[str]:
        words = ["redis-server", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(self.directory)]
        words += ["--port", "0" if self.tls else str(self.port), "--daemonize", "no"]
        if self.tls:
            certificate, key, authority = self.tls
            words += ["--tls-port", str(self.port), "--tls-cert-file", certificate, "--tls-key-file", key]
            words += ["--tls-ca-cert-file", authority, "--tls-auth-clients", "no"]
        if self.password:
            words += ["--requirepass", self.password]
        return [*words, *self.options]

    def start(self) -> None:
        """Start the server. Return once it answers PING."""
        assert self._process is None
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(self.command_line(), stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if self.ask("PING") == b"PONG":
                    return
            except OSError:
                pass
            if self._process.poll() is not None or time.monotonic() > deadline:
                log_text = (self.directory / "log").read_text()
                self.close()
                raise RuntimeError(f"redis-server did not start: {log_text[-2000:]}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop it like an administrator."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it, like a crash."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.send_signal(signal.SIGCONT)
            self._process.wait(PATIENCE)
            self._process = None

    def pause(self) -> None:
        """Suspend it: its connections stay open, and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Stop it for good and remove its directory."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def ask(self, *words: str | bytes) -> Any:
        """Send one command on a connection of its own. Return the answer; text is bytes."""
        commands: list[list[str | bytes]] = [["AUTH", self.password], list(words)] if self.password else [list(words)]
        reader = hiredis.Reader()
        answers: list[Any] = []
        with closing(self._connect()) as connection:
            connection.sendall(b"".join(_encode(command) for command in commands))
            while len(answers) < len(commands):
                part = connection.recv(65536)
                if not part:
                    raise ConnectionError("redis-server has closed the connection")
                reader.feed(part)
                while (answer := reader.gets()) is not False:
                    answers.append(answer)
        return answers[-1]

    def _connect(self) -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=2)
        if not self.tls:
            return plain
        context = ssl.create_default_context(cafile=self.tls[2])
        return context.wrap_socket(plain, server_hostname="localhost")


class SentinelServer(RedisServer):
    """A redis-sentinel that monitors one master under the name `nexus`."""

    def __init__(self, master: int, quorum: int = 1, password: str | None = None, options: tuple[str, ...] = ()) -> None:
        """`options` are further lines of its configuration."""
        super().__init__(password=password)
        self._configuration = self.directory / "sentinel.conf"
        self._configuration.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.directory}\n"
            f"sentinel monitor nexus 127.0.0.1 {master} {quorum}\n"
            "sentinel down-after-milliseconds nexus 500\nsentinel failover-timeout nexus 3000\n"
            + "".join(f"{line}\n" for line in (*([f'requirepass "{password}"'] if password else ()), *options))
        )

    def command_line(self) -> list[str]:
        return ["redis-server", str(self._configuration), "--sentinel"]


def _encode(words: Sequence[str | bytes]) -> bytes:
    parts = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def running(**arguments: Any) -> Iterator[RedisServer]:
    """For a fixture: start the server, and stop it afterwards."""
    server = RedisServer(**arguments)
    server.start()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis for one test, without a password. Import this fixture where it is used."""
    yield from running()
