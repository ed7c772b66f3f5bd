"""A short search for plaintexts wherever something stays; and that the search finds what is there."""

from __future__ import annotations

import base64
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.adversity.plaintext import look_for_plaintext
from tests.adversity.plaintext_search import Marks, Search, key_patterns

pytestmark = pytest.mark.anyio

WRITTEN: dict[str, Callable[[str], bytes]] = {
    "raw": lambda text: text.encode(),
    "hex": lambda text: text.encode().hex().encode(),
    "utf-16-le": lambda text: text.encode("utf-16-le"),
    "base64 at 0": lambda text: base64.b64encode(text.encode()),
    "base64 at 1": lambda text: base64.b64encode(b"?" + text.encode()),
    "base64 at 2": lambda text: base64.b64encode(b"??" + text.encode()),
}


@pytest.mark.usefixtures("redis_url")
async def test_no_plaintext_and_no_key_stays_anywhere(tmp_path: Path) -> None:
    said = await look_for_plaintext(4, 7, tmp_path, archived=False, quick=True)
    assert (said["found"], said["where"], said["refused"]) == (0, [], 0)
    assert said["marks_sent"] == 4 * 3 + 1 + 5
    assert said["redis_bytes"] > 10_000
    assert said["webhook_bytes"] > 2_000
    assert said["bytes_searched"] > 50_000_000


@pytest.mark.parametrize("how", WRITTEN)
def test_a_mark_is_found_however_it_is_written(how: str, tmp_path: Path) -> None:
    marks = Marks(random.Random(7))
    (tmp_path / "deep").mkdir()
    around = os.urandom(70_000) + b"x", b"x" + os.urandom(8)  # a zero beside it would make it the other UTF-16, too
    (tmp_path / "deep" / "file").write_bytes(WRITTEN[how](marks.make().decode()).join(around))
    (tmp_path / "other").write_bytes(os.urandom(9000))
    search = Search(marks.patterns())
    search.through_folder("disk", tmp_path)
    assert search.found == [f"disk: deep/file: {how}"]
    assert (search.places, search.bytes > 79_000) == (2, True)


def test_a_mark_is_found_where_two_chunks_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.adversity.plaintext_search._CHUNK_BYTES", 1000)
    marks = Marks(random.Random(7))
    (tmp_path / "file").write_bytes(b"-" * 990 + marks.make() + b"-" * 990)
    search = Search(marks.patterns())
    search.through_folder("disk", tmp_path)
    assert len(search.found) == 1


def test_a_key_is_found_in_the_memory_of_a_process() -> None:
    key = os.urandom(32)
    held = b"." + key + base64.b64encode(key)
    search = Search(key_patterns({"secret": key}))
    search.through_memory("memory", os.getpid(), set())
    assert {found.rpartition(", ")[2] for found in search.found} >= {"raw", "base64 at 0"}, held[:1]
