"""Matrix' own client of a device, OlmMachine, in Node: what says whether our messages are those of Matrix.

Its package is fetched once by npm into the user's cache folder, by version and hash. Invariant: a folder of the cache
is complete, because it is filled under another name first.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self

from tests.engines.server_process import EngineError, EngineMissingError

VERSION = "18.9.0"
_INTEGRITY = "sha512-NtLzNDTEfNASBjNCTGZHuk7N0jrQhS6Zx2CM857rCHZYYh/rpbKGQNrJ7azktm4S1P5Jy3WU3nwJTGohGw26qQ=="
_PACKAGE = "@matrix-org/matrix-sdk-crypto-wasm"
_MANIFEST = {"name": "tchat-olm-machine", "private": True, "dependencies": {_PACKAGE: VERSION}}
_LOCK = {
    "name": "tchat-olm-machine",
    "lockfileVersion": 3,
    "packages": {
        "": _MANIFEST,
        f"node_modules/{_PACKAGE}": {"version": VERSION, "integrity": _INTEGRITY},
    },
}
_FETCH_TIMEOUT_S = 300.0
_HOW = "install Node 18 or newer with npm (on Debian and Ubuntu: apt-get install nodejs npm)"


class OlmMachine:
    """A device that Matrix' library runs, in a process of its own."""

    def __init__(self) -> None:
        node = shutil.which("node")
        if node is None:
            raise EngineMissingError(f"There is no Node for Matrix' OlmMachine: {_HOW}.")
        script = Path(__file__).with_suffix(".mjs")
        command = [node, str(script), str(fetch_package())]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def call(self, name: str, *args: object) -> Any:
        """The result of a function of the script; `EngineError` with its error."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"call": name, "args": args}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "the process ended"}
        if "error" in answer:
            raise EngineError(f"OlmMachine, {name}: {answer['error']}")
        return answer["result"]


def fetch_package() -> Path:
    """The folder with the package, fetched by npm if need be (9 MB); raises EngineMissingError."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "tchat" / f"olm-machine-{VERSION}"
    if folder.exists():
        return folder
    npm = shutil.which("npm")
    if npm is None:
        raise EngineMissingError(f"There is no npm to fetch Matrix' OlmMachine with: {_HOW}.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as fresh:
        filled = Path(fresh) / "filled"
        filled.mkdir()
        (filled / "package.json").write_text(json.dumps(_MANIFEST))
        (filled / "package-lock.json").write_text(json.dumps(_LOCK))
        done = _run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], filled)
        if done.returncode != 0:
            raise EngineMissingError(f"npm could not fetch Matrix' OlmMachine: {done.stderr.strip()[-1000:]}")
        with contextlib.suppress(OSError):  # another run was first
            filled.rename(folder)
    return folder


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=_FETCH_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise EngineMissingError(f"npm did not fetch Matrix' OlmMachine within {_FETCH_TIMEOUT_S:.0f} s.") from error
