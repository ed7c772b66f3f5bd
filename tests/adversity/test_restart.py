"""Three short rounds of the conversation that is cut, killed and started again."""

import asyncio
import contextlib
import re
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.adversity.conversation import PROMISES
from tests.adversity.restart import restart
from tests.adversity.restart_server import ROOT

pytestmark = pytest.mark.anyio


SAID_OR_SECRET = re.compile(r"\.{20}|(2e){20}|(Li4u){6}|eyJ[\w-]{20}|PRIVATE KEY")
"""The filler of messages: as it is, as PostgreSQL shows bytes, in base64. A token; a key."""


async def test_what_was_promised_outlives_cuts_and_kills(tmp_path: Path) -> None:
    summary, violations = await restart(rounds=3, seed=20, messages_per_round=150, folder=tmp_path)
    assert violations.said == []
    assert {promise: summary[promise] for promise in PROMISES} == dict.fromkeys(PROMISES, 0)
    assert summary["messages"] >= 3 * 150
    assert summary["kills"] == summary["sign_ins_ended"] == 3
    assert min(summary[blow] for blow in ("cuts", "crashes", "acked_again", "late_commits", "replies_lost")) > 0
    assert min(summary[of] for of in ("sealed", "keys_had", "stale")) > 0
    log = (tmp_path / "server.log").read_text()
    assert "a flush of " in log
    assert SAID_OR_SECRET.search(log) is None


async def test_sigterm_leaves_nothing_running(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "tests.adversity.restart", "--rounds", "9", "--folder", str(tmp_path))
    tool = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stderr=asyncio.subprocess.PIPE)
    assert tool.stderr is not None
    assert b"everybody has signed in" in await tool.stderr.readline()
    assert running_in(tmp_path)
    tool.send_signal(signal.SIGTERM)
    assert await tool.wait() == 128 + signal.SIGTERM
    assert running_in(tmp_path) == []


def running_in(folder: Path) -> list[str]:
    """What runs that works in a folder or was called with it, as far as that can be seen."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            found.append(" ".join((process.cwd(), *process.cmdline())))
    return [said for said in found if str(folder) in said]
