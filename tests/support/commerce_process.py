"""`tchat commerce` as a process, and other commands of `tchat`."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator

TCHAT = (sys.executable, "-c", "import sys; from server.node.cli import main; sys.exit(main())")


async def run(*arguments: str, environment: dict[str, str]) -> tuple[int | None, str]:
    """Exit code and output of a command."""
    process = await asyncio.create_subprocess_exec(*arguments, env=environment, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return process.returncode, output.decode()


@contextlib.asynccontextmanager
async def serving_process(environment: dict[str, str]) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """The URL of the service, and its process."""
    process = await asyncio.create_subprocess_exec(*TCHAT, "commerce", env=environment, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        found = re.search(rb"http://[\d.:]+", line)
        assert found is not None, line
        yield found[0].decode(), process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
