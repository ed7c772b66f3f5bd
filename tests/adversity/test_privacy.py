"""A short run of people with marked data, some of whom are erased before all is restored from older backups.

That the run sees what leaks is tried by `--break`: each takes as long as this one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adversity.privacy import COUNTS, try_privacy

pytestmark = pytest.mark.anyio


async def test_personal_data_is_nowhere_in_clear_and_gone_after_the_erasure(tmp_path: Path) -> None:
    said = await try_privacy(tmp_path, people=12, seed=4)
    assert {count: said[count] for count in COUNTS} == dict.fromkeys(COUNTS, 0)
    assert (said["people"], said["erased"], said["marks"]) == (12, 4, 60)
    assert said["megabytes"] > 50
