"""What a process starts for itself does not outlive it, nor do its files."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

_WATCHES = """
import sys
from pathlib import Path
from tests.engines.server_process import Watcher
watcher = Watcher.removing(Path(sys.argv[1]))
print(watcher._process.pid, flush=True)
if sys.stdin.readline():
    watcher.dismiss()
"""


@pytest.mark.parametrize("dismissed", [False, True])
def test_a_folder_goes_with_an_owner_who_is_killed(tmp_path: Path, dismissed: bool) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    command = [sys.executable, "-c", _WATCHES, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        watcher = psutil.Process(int(owner.stdout.readline()))
        if dismissed:
            owner.communicate("end\n")
        else:
            owner.kill()
    watcher.wait(30.0)
    assert folder.exists() is dismissed
