"""A commitment is kept to what was committed to, and to nothing else."""

from __future__ import annotations

import dataclasses
import os

import pytest

from protocol.franking import Franked, commit, is_committed
from protocol.ids import new_id

KEY = os.urandom(32)
FRANKED = Franked(new_id(), new_id(), new_id(), 7, 1, None, b"content")


def test_what_was_committed_to_is_proved() -> None:
    assert is_committed(commit(KEY, FRANKED), KEY, FRANKED)


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(FRANKED, dialog=new_id()),
        dataclasses.replace(FRANKED, author=new_id()),
        dataclasses.replace(FRANKED, device=new_id()),
        dataclasses.replace(FRANKED, n=8),
        dataclasses.replace(FRANKED, tag=2),
        dataclasses.replace(FRANKED, target=3),
        dataclasses.replace(FRANKED, content=b"conten"),
        dataclasses.replace(FRANKED, content=b"content\0"),
    ],
)
def test_anything_else_is_not(other: Franked) -> None:
    assert not is_committed(commit(KEY, FRANKED), KEY, other)


@pytest.mark.parametrize("key", [KEY[:-1], KEY + b"\0", b"", os.urandom(32)], ids=["short", "long", "empty", "another"])
def test_another_key_proves_nothing(key: bytes) -> None:
    assert not is_committed(commit(KEY, FRANKED), key, FRANKED)


def test_a_key_that_ends_in_zeros_is_not_taken_shorter() -> None:
    key = KEY[:-1] + b"\0"
    assert not is_committed(commit(key, FRANKED), key[:-1], FRANKED)
    with pytest.raises(ValueError, match="32 bytes"):
        commit(key[:-1], FRANKED)
