"""The data folder: where one server keeps its data, and the lock that makes it the only one there.

Invariants: the folder is readable by its owner alone; the holder of the lock is the only server on it; the kernel
drops the lock with the process, so a killed server leaves nothing to clean up. The pid in the lock file names the
holder in messages; it never decides who holds the lock.
"""

import fcntl
import os
from pathlib import Path

LOCK_NAME = "lock"


class DataFolderError(Exception):
    """The data folder cannot be used; the message says why and what to do."""


class DataFolderInUseError(DataFolderError):
    """Another server holds the folder; `pid` is that process, 0 if it did not say."""

    def __init__(self, path: Path, pid: int) -> None:
        holder = f"the server with process id {pid}" if pid else "another server"
        super().__init__(
            f"The data folder {path} is in use by {holder}: stop it, or give this one its own server.data_dir."
        )
        self.pid = pid


class DataFolder:
    """A locked data folder; free again after `release` or when the process ends."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._lock_fd: int | None = None

    def acquire(self) -> None:
        """Create the folder if need be and lock it.

        Raises DataFolderInUseError if another process has it, DataFolderError if it cannot be made or written.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DataFolderError(
                f"The data folder {self.path} cannot be written ({error.strerror}): "
                "give this user the right to, or set server.data_dir to another folder."
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(fd, 20).strip()
            os.close(fd)
            raise DataFolderInUseError(self.path, int(holder) if holder.isdigit() else 0) from None
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        self._lock_fd = fd

    def release(self) -> None:
        """Release the lock; harmless if it is not held."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None
