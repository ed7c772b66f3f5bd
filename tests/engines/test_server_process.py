"""What a process starts for itself does not outlive it, nor do its files."""

import subprocess
import sys
from pathlib import Path

import psutil

from tests.engines.server_process import Watcher

_STARTS_ONE = """
import subprocess, sys
from pathlib import Path
from tests.engines.server_process import Watcher
server = subprocess.Popen(["sleep", "60"])
watcher = Watcher(server.pid, folder=Path(sys.argv[1]))
print(server.pid, watcher._process.pid, flush=True)
sys.stdin.read()
"""


def test_the_server_and_its_folder_go_with_an_owner_who_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    command = [sys.executable, "-c", _STARTS_ONE, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        server, watcher = (psutil.Process(int(pid)) for pid in owner.stdout.readline().split())
        owner.kill()
    server.wait(30.0)
    watcher.wait(30.0)
    assert not folder.exists()


def test_the_folder_stays_when_the_watch_is_dismissed(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as server:
        watcher = Watcher(server.pid, folder=tmp_path)
        server.kill()
    watcher.dismiss()
    assert tmp_path.exists()
