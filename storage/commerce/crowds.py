"""Reads of commerce that many ask for at the same moment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from storage.postgres.gathered_reads import GatheredReads

A = TypeVar("A")
R = TypeVar("R")

_TOGETHER_MAX = 50
_CROWD = 8
_PER_TURN = 32
"""More than the chat has: whoever pays takes several reads and a step, and those of a crowd gather again."""


def gather_reads(read_all: Callable[[Sequence[A]], Awaitable[Sequence[R]]]) -> GatheredReads[A, R]:
    """Reads by `read_all`, which returns one answer for each that it is asked, in order."""
    return GatheredReads(read_all, size_max=_TOGETHER_MAX, crowd=_CROWD, per_turn=_PER_TURN)
