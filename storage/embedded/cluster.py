"""The embedded PostgreSQL: one cluster in the data folder, started with the server and stopped with it.

Invariants: one server per data folder (`data_folder`); PostgreSQL listens only on a unix socket, in a folder that only
its user may enter, and accepts only the server's user and its own, whom the kernel names (peer); a commit is on disk
before it is acknowledged; a folder named `postgres/` is a whole cluster, because it is made under another name first.
A PostgreSQL that a killed server left running is stopped before a new one starts: its settings may be outdated.
"""

import contextlib
import hashlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psutil

from storage.embedded.data_folder import DataFolder, DataFolderError, DataFolderInUseError
from storage.embedded.install import MAJOR_VERSION, EmbeddedError, Launcher, SystemAccount, account_for

__all__ = ["DataFolderError", "DataFolderInUseError", "EmbeddedError", "EmbeddedPostgres", "kill_cluster"]

USER = "tchat"
DATABASE = "tchat"
PORT = 5432  # names the socket's file; nothing listens on TCP
LOG_BYTES_MAX = 8 * 1024 * 1024
START_TIMEOUT_S = 120.0  # recovery after a crash replays what was written since the last checkpoint
STOP_TIMEOUT_S = 30.0
_SOCKET_PATH_BYTES_MAX = 100  # the kernel takes 107 on Linux, 103 on macOS
_POLL_S = 0.005

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": str(PORT),
    "max_connections": "100",
    "shared_buffers": "128MB",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "wal_level": "replica",
    "max_wal_size": "1GB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    # A statement or a row in PostgreSQL's log could carry what people wrote.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
    "cluster_name": "tchat",
}


class EmbeddedPostgres:
    """A PostgreSQL of our own in `data_dir`; `settings` override SETTINGS."""

    def __init__(self, data_dir: Path, settings: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir.resolve()
        self._settings = {**SETTINGS, **(settings or {})}
        self._folder = DataFolder(self.data_dir)
        self._cluster = self.data_dir / "postgres"
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()  # `revive` may run in another thread when `stop` is called

    @property
    def url(self) -> str:
        """The URL of the server's own database, whether or not it runs."""
        return self.database_url(DATABASE)

    def database_url(self, name: str) -> str:
        """The URL of the database `name` of this cluster."""
        return (
            f"postgresql://{USER}@/{quote(name)}?host={quote(str(_socket_folder(self.data_dir)), safe='')}&port={PORT}"
        )

    @property
    def log_path(self) -> Path:
        """The log of PostgreSQL itself."""
        return self.data_dir / "postgres.log"

    @property
    def pid(self) -> int:
        """The process id of the running PostgreSQL."""
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> None:
        """Lock the data folder, make the cluster if there is none, and return when PostgreSQL answers.

        Raises DataFolderInUseError, DataFolderError or EmbeddedError; then nothing was left running.
        """
        assert self._process is None, "already started"
        self._folder.acquire()
        try:
            self._run()
        except BaseException:
            self.stop()
            raise

    def revive(self) -> bool:
        """Start PostgreSQL again if it ended without `stop`; return whether it had. Blocks as `start` does.

        Raises EmbeddedError when it could not be started now: call again later.
        """
        with self._lock:
            if self._process is None or self._process.poll() is None:
                return False
            self._run()
            return True

    def stop(self) -> None:
        """End PostgreSQL (open transactions are rolled back) and release the data folder; harmless if not running."""
        with self._lock:
            self._stop()

    def _run(self) -> None:
        try:
            account = account_for(self._cluster)
            with contextlib.closing(Launcher(account)) as launcher:
                if not self._cluster.exists():
                    self._create_cluster(launcher, account)
                self._check_version()
                _stop_orphans(self._cluster)
                _make_private_folder(_socket_folder(self.data_dir), account)
                _clear_socket(_socket_folder(self.data_dir))
                _write_access_rules(self._cluster, account)
                self._process = self._launch(launcher)
            self._await_ready(self._process)
        except OSError as error:
            raise EmbeddedError(f"PostgreSQL could not be started in {self._cluster}: {error}.") from error

    def _stop(self) -> None:
        if self._process is not None:
            _end(self._process.pid)
            self._process.wait()
            self._process = None
        self._folder.release()

    def kill(self) -> None:
        """End every process of PostgreSQL at once, as a power cut would, and release the data folder."""
        kill_cluster(self.data_dir)
        if self._process is not None:
            self._process.wait()
            self._process = None
        self._folder.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _create_cluster(self, launcher: Launcher, account: SystemAccount) -> None:
        fresh = self._cluster.with_name("postgres.new")
        if fresh.exists():  # left by an interrupted start
            shutil.rmtree(fresh)
        _make_private_folder(fresh, account)
        folder = launcher.folder(fresh)
        initdb = [launcher.program("initdb"), "-D", folder, "-U", USER, "--auth=peer", "--data-checksums"]
        launcher.run([*initdb, "--encoding=UTF8", "--locale=C"])
        single = [launcher.program("postgres"), "--single", "-D", folder, "postgres"]
        launcher.run(single, f"CREATE DATABASE {DATABASE}\n")
        fresh.rename(self._cluster)

    def _check_version(self) -> None:
        try:
            version = (self._cluster / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            raise EmbeddedError(f"{self._cluster} is not a PostgreSQL cluster: move it away.") from None
        if version != MAJOR_VERSION:
            raise EmbeddedError(
                f"{self._cluster} was made by PostgreSQL {version} and this is {MAJOR_VERSION}: "
                "dump it with the version that made it, or set server.data_dir to another folder."
            )

    def _launch(self, launcher: Launcher) -> subprocess.Popen[bytes]:
        command = [launcher.program("postgres"), "-D", launcher.folder(self._cluster)]
        command += ["-k", launcher.folder(_socket_folder(self.data_dir))]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        log = _open_log(self.log_path)
        try:
            return launcher.start(command, log)
        finally:
            os.close(log)

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until PostgreSQL's own status file says ready: written after recovery, when clients may connect."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise EmbeddedError(f"PostgreSQL ended while starting. The end of {self.log_path}: {self._log_tail()}")
            if _read_status(self._cluster) == (process.pid, "ready"):
                return
            time.sleep(_POLL_S)
        raise EmbeddedError(f"PostgreSQL was not ready after {START_TIMEOUT_S:.0f} s: see {self.log_path}.")

    def _log_tail(self) -> str:
        lines = self.log_path.read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-3:])


def kill_cluster(data_dir: Path) -> None:
    """SIGKILL every PostgreSQL process of this data folder: for tests of crashes."""
    processes = _processes_in(data_dir.resolve() / "postgres")
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _wait_for_end(processes)


def _stop_orphans(cluster: Path) -> None:
    """Stop a PostgreSQL that a killed server left running, and remove its pid file; called under the folder's lock."""
    pid_file = cluster / "postmaster.pid"
    if not pid_file.exists():
        return
    processes = _processes_in(cluster)
    status = _read_status(cluster)
    if status is not None and any(process.pid == status[0] for process in processes):
        _end(status[0])
    # Backends whose postmaster was killed end by themselves when they notice; kill those that are too busy to.
    alive = _wait_for_end(processes)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _wait_for_end(alive)
    # No process has the cluster open now, so the file names an ended one. PostgreSQL would refuse to start if another
    # process had got that number since, or if the ended one is still a zombie.
    pid_file.unlink(missing_ok=True)


def _clear_socket(folder: Path) -> None:
    """Remove a killed PostgreSQL's socket and its lock file, for the same reason and as safely."""
    for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
        (folder / name).unlink(missing_ok=True)


def _processes_in(cluster: Path) -> list[psutil.Process]:
    """PostgreSQL's processes on this cluster: all of them work inside its folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.cwd() == str(cluster):
                found.append(process)
    return found


def _end(pid: int) -> None:
    """Stop a postmaster: first so that its clients get an answer, then by force."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            process.send_signal(how)
            if not _wait_for_end([process]):
                return


def _wait_for_end(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Wait until these have ended; return those that still run after STOP_TIMEOUT_S.

    A zombie counts as ended: in a container there may be no parent that reaps it.
    """
    alive = list(processes)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while (alive := [process for process in alive if _runs(process)]) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return alive


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _read_status(cluster: Path) -> tuple[int, str] | None:
    """The process id and status in postmaster.pid (lines 1 and 8), None while it is incomplete."""
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
        return int(lines[0]), lines[7].strip()
    except (FileNotFoundError, IndexError, ValueError):
        return None


def _socket_folder(data_dir: Path) -> Path:
    """Beside the cluster, or under the temporary folder if that path is too long for a socket's address."""
    beside = data_dir / "run"
    if len(os.fsencode(beside / f".s.PGSQL.{PORT}")) <= _SOCKET_PATH_BYTES_MAX:
        return beside
    key = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"tchat-{key}"


def _make_private_folder(path: Path, account: SystemAccount) -> None:
    """Make a folder that the account alone may enter, or make sure that it is one.

    In the temporary folder another user could have made it first, to intercept our clients.
    """
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {account.uid, os.geteuid()}:
        raise EmbeddedError(f"{path} belongs to another user: remove it.")
    if not account.is_ours:
        os.chown(path, account.uid, account.gid)
    path.chmod(0o700)


def _write_access_rules(cluster: Path, account: SystemAccount) -> None:
    """Accept only the server's user and PostgreSQL's own, each named by the kernel."""
    users = {pwd.getpwuid(os.geteuid()).pw_name, account.name}
    rules = {
        "pg_hba.conf": f"local all {USER} peer map=tchat\n",
        "pg_ident.conf": "".join(f'tchat "{user}" {USER}\n' for user in sorted(users)),
    }
    for name, text in rules.items():
        (cluster / name).write_text(text)  # both exist since initdb, so they keep their owner and mode


def _open_log(path: Path) -> int:
    if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
        path.replace(path.with_name(f"{path.name}.1"))
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
