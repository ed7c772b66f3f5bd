"""Autobahn's fuzzing client against the gateway's frame layer: `python -m tests.adversity.autobahn`.

Sections 1 to 10: framing, pings, reserved bits, opcodes, fragments, UTF-8, closing, limits. Sections 12 and 13 are
left out: they are about compression, which the gateway never agrees to. Behind the gateway stands an echo, without
a subprotocol and with messages up to 16 MiB, as the suite expects.

The fuzzing client runs on Python 2.7 only; it is installed once under `.cache/`. Exits with 0 when every case is
OK, NON-STRICT or INFORMATIONAL, with 1 when one is not, with 2 when the client cannot be had here.
"""

# ruff: noqa: T201 - a command prints

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from server.clock import SystemClock
from server.config.settings import GatewaySettings
from server.gateway import frames
from server.gateway.acceptor import Acceptor
from server.gateway.connection import Connection
from server.gateway.handshake import PATH

_CACHE = Path(__file__).parents[2] / ".cache"
_VIRTUALENV = _CACHE / "virtualenv"  # the last release line that can still make a Python 2.7 environment
_CLIENT = _CACHE / "autobahn"
_REPORT = _CACHE / "autobahn-report"
_PASSED = ("OK", "NON-STRICT", "INFORMATIONAL")
_MESSAGE_BYTES_MAX = 16 * 2**20


class Echo:
    """Sends every message back, and reads no further while the client does not."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        connection.trust()

    def received(self, data: bytes, text: bool) -> None:
        self._connection.write(frames.encode(frames.TEXT if text else frames.BINARY, data))
        if self._connection.paused:
            self._connection.pause_reading()

    def writable(self) -> None:
        self._connection.resume_reading()

    def closed(self) -> None:
        """Nothing is held."""


async def no_http(_scope: Any, _receive: Any, _send: Any) -> None:
    raise AssertionError("the fuzzing client asks for websockets only")


def find_python2() -> str | None:
    """Return a Python 2.7 that runs; a version manager's shim may be there and not work."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which("python2.7"), shutil.which("python2"), shutil.which("pypy")]
    candidates += [str(path) for path in pyenv.glob("*2.7*/bin/python")]
    for candidate in candidates:
        if candidate is not None:
            command = [candidate, "-c", "import sys; print(sys.version_info[:2] == (2, 7))"]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.stdout.strip() == "True":
                return candidate
    return None


def install_client() -> Path:
    """Return the fuzzing client's command, installed at the first call. Raise `LookupError` without a Python 2.7."""
    command = _CLIENT / "bin" / "wstest"
    if command.exists():
        return command
    python2 = find_python2()
    if python2 is None:
        raise LookupError(
            "Autobahn's fuzzing client needs a Python 2.7, and there is none here: "
            "install one ('pyenv install 2.7.18', or a PyPy 2.7 on the PATH) and run this again"
        )
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-warn-conflicts", "--target", str(_VIRTUALENV)]
    subprocess.run([*pip, "virtualenv<20.22"], check=True)
    environment = os.environ | {"PYTHONPATH": str(_VIRTUALENV)}
    make = [sys.executable, "-m", "virtualenv", "--quiet", "--python", python2, str(_CLIENT)]
    subprocess.run(make, check=True, env=environment)
    # Python 2.7 is long out of support, which pip says at every turn.
    quiet = [str(_CLIENT / "bin" / "pip"), "install", "--quiet", "--no-python-version-warning"]
    subprocess.run([*quiet, "autobahntestsuite==25.10.1"], check=True)
    return command


async def run_suite(command: Path, cases: list[str]) -> dict[str, dict[str, Any]]:
    """Run the cases and return the suite's verdict on each."""
    shutil.rmtree(_REPORT, ignore_errors=True)
    _REPORT.mkdir(parents=True)
    settings = GatewaySettings(message_bytes_max=_MESSAGE_BYTES_MAX, rare_frames_per_s=1e6)  # it sends many fragments
    acceptor = Acceptor(settings, Echo, no_http, SystemClock(), subprotocols=())
    host, port = await acceptor.listen("127.0.0.1", 0)
    specification = {
        "outdir": str(_REPORT),
        "servers": [{"agent": "tchat", "url": f"ws://{host}:{port}{PATH}"}],
        "cases": cases,
        "exclude-cases": ["12.*", "13.*"],
        "exclude-agent-cases": {},
    }
    path = _REPORT / "specification.json"
    path.write_text(json.dumps(specification))
    process = await asyncio.create_subprocess_exec(
        *(str(command), "--mode", "fuzzingclient", "--spec", str(path)), stdout=asyncio.subprocess.DEVNULL
    )
    if await process.wait() != 0:
        raise RuntimeError(f"the fuzzing client ended with {process.returncode}")
    acceptor.stop_accepting()
    acceptor.abort_all()
    verdicts: dict[str, dict[str, Any]] = json.loads((_REPORT / "index.json").read_text())["tchat"]
    return verdicts


def main(cases: list[str]) -> int:
    """Run the suite, or some of its cases, and print a summary."""
    try:
        command = install_client()
    except LookupError as error:
        print(error, file=sys.stderr)
        return 2
    began = time.monotonic()
    verdicts = asyncio.run(run_suite(command, cases or ["*"]))
    failed = 0
    for case, verdict in sorted(verdicts.items(), key=lambda item: [int(part) for part in item[0].split(".")]):
        if verdict["behavior"] not in _PASSED or verdict["behaviorClose"] not in _PASSED:
            failed += 1
            print(f"case {case}: {verdict['behavior']}, closing {verdict['behaviorClose']}")
    print(f"sections 12 and 13 (compression) left out; report in {_REPORT.relative_to(_CACHE.parent)}/index.html")
    summary = {
        "cases": len(verdicts),
        "failed": failed,
        "behaviour": Counter(verdict["behavior"] for verdict in verdicts.values()),
        "closing": Counter(verdict["behaviorClose"] for verdict in verdicts.values()),
        "seconds": round(time.monotonic() - began),
    }
    print(json.dumps(summary))
    return 1 if failed or not verdicts else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
