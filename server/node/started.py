"""What every command of `tchat` does alike: load the configuration, run, say why it failed."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from server.config.settings import Config

T = TypeVar("T")

EXIT_PROBLEM = 1
EXIT_CANNOT_START = 2


def show(line: str) -> None:
    """A line for who waits for it: it is not held back."""
    print(line, flush=True)


def started(path: Path | None, run: Callable[[Config], int | None]) -> int:
    """Load the configuration and run; print why a start failed as one sentence, without a traceback.

    What `run` returns is the exit code; None is 0.
    """
    from server.config.load import load
    from server.node.startup import explain

    config = None
    try:
        config = load(path, os.environ)
        return run(config) or 0
    except Exception as error:
        said = explain(error, config)
        if said is None:
            raise
        print(f"tchat: {said}", file=sys.stderr)
        return EXIT_CANNOT_START


def run_on_uvloop(work: Coroutine[Any, Any, T]) -> T:
    """Run what serves to its end, on the quicker loop."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
