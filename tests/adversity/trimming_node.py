"""`tchat serve` whose journal forgets at once what is settled and archived, not after a month.

Deleted may be only what nobody repeats any more. The run knows what that is: all before it last came to rest. It says
so by a file, of whose age each sweep makes the age of what it deletes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from server.node import running_node
from server.node.cli import main
from server.writing import trimmer

SETTLED_FILE = "TCHAT_TEST_SETTLED_FILE"


class EagerTrimmer(trimmer.Trimmer):
    """Sweeps all the time, and deletes what was written before the file was."""

    async def _step(self) -> bool:
        settled_ms = _read_settled_ms()
        if settled_ms is None:
            return False
        self._kept_ms = self._clock.wall_ms() - settled_ms
        return await super()._step()


def _read_settled_ms() -> int | None:
    """Until when all is settled; None: not known."""
    try:
        return int(Path(os.environ[SETTLED_FILE]).stat().st_mtime * 1000)
    except FileNotFoundError:
        return None


if __name__ == "__main__":
    vars(trimmer).update(SWEEP_INTERVAL_S=0.5)
    vars(running_node).update(Trimmer=EagerTrimmer)
    sys.exit(main(["serve"]))
