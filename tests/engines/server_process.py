"""A server that one process starts for itself.

Invariants: the server ends with its owner, also when the owner is killed: a `Watcher` waits for the end of a pipe that
only the owner holds, and then ends the server. Neither gets the signals of the owner's terminal. Servers listen on the
loopback address only, on ports that the kernel gives to no outgoing connection: after a restart the port is still free.
"""

import abc
import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
_PORTS = (20_000, 30_000)  # below those of outgoing connections, on Linux (32768) and macOS (49152)
_POLL_S = 0.01


class EngineError(Exception):
    """A server did not start; the message holds the end of its log."""


class EngineMissingError(Exception):
    """This machine does not have the program; the message says how to get it."""


class Watcher:
    """A shell that runs a command when this process ends without `dismiss`, even by a kill."""

    def __init__(self, command: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", f"read -r _ && exit; {command}", *arguments],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    @classmethod
    def killing(cls, pid: int, how: int = signal.SIGKILL) -> Self:
        """Sends a signal to a process."""
        return cls('kill -"$1" "$0"', str(pid), str(int(how)))

    @classmethod
    def removing(cls, folder: Path) -> Self:
        """Removes a folder, when the servers that work in it have been killed."""
        return cls('sleep 3; rm -rf "$0"', str(folder))

    def dismiss(self) -> None:
        """End the watch: what it is about has ended, and the number of a process may be another's."""
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate(b"ended\n")


class ServerProcess:
    """One process of a server, whose output goes to the file `log`."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self._log = log
        with log.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        self._watcher = Watcher.killing(self.pid)

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    def await_ready(self, sign: str, timeout_s: float) -> None:
        """Wait until the server's log has `sign`; raises EngineError with the log's end if it ended or is late.

        Its log, not its port: on that, a server of another run could be the one that answers.
        """
        deadline = time.monotonic() + timeout_s
        while sign not in self._output():
            if self._process.poll() is not None:
                raise EngineError(f"{self._process.args!r} ended while starting: {self._output()[-2000:]}")
            if time.monotonic() > deadline:
                raise EngineError(f"{self._process.args!r} was late ({timeout_s:.0f} s): {self._output()[-2000:]}")
            time.sleep(_POLL_S)

    def send_signal(self, number: int) -> None:
        """Send a signal to the server."""
        self._process.send_signal(number)

    def end(self, how: int, timeout_s: float = 30.0) -> int:
        """Send a signal that ends the server, and wait until it has ended; its exit code.

        When that takes too long, kill it.
        """
        self.send_signal(how)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.send_signal(signal.SIGKILL)
            self._process.wait()
        self._watcher.dismiss()
        return self._process.returncode

    def _output(self) -> str:
        with self._log.open(errors="replace") as log:
            log.seek(self._log_start)
            return log.read()


class RestartableServer(abc.ABC):
    """A server that keeps its files and its port over restarts; `start` makes its process."""

    def __init__(self) -> None:
        self._port = free_port()
        self._process: ServerProcess | None = None

    @property
    def port(self) -> int:
        """The port of 127.0.0.1 on which it speaks with clients."""
        return self._port

    @abc.abstractmethod
    def start(self) -> None:
        """Return when it accepts clients; raises EngineMissingError or EngineError, and then it does not run."""

    def stop(self) -> None:
        """End it as an operator does; harmless if it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, paused or not; harmless if it does not run."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Stop it without closing its connections, as a machine that hangs does; on return all its threads stand."""
        assert self._process is not None, "not started"
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None, "not started"
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _end(self, how: int) -> None:
        if self._process is not None:
            self._process.end(how)
            self._process = None


def free_port() -> int:
    """A port on which nothing listens now. Another run may choose the same at this moment: then the server ends."""
    while True:
        port = random.randrange(*_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port
