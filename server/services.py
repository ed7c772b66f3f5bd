"""What a session may use: the node's parts, handed over by the composition root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from server.clock import Clock
from server.config import SessionSettings, SyncSettings
from server.horizon import Horizon
from server.pipeline import Pipeline
from server.registry import Registry
from server.tokens import Claims, Tokens
from server.wheel import TimingWheel
from storage.timelines import Timelines

if TYPE_CHECKING:
    from server.presence import Presence
    from server.receipts import Receipts
    from server.rooms import Rooms
    from server.session import Session
    from server.writes import Writes


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The parts of one node."""

    clock: Clock
    settings: SessionSettings
    sync: SyncSettings
    message_bytes_max: int
    tokens: Tokens
    timelines: Timelines
    pipeline: Pipeline
    registry: Registry
    rooms: Rooms
    receipts: Receipts
    presence: Presence
    horizon: Horizon
    wheel: TimingWheel[Session]
    writes: Writes
    sign_out: Callable[[Claims], Awaitable[None]]
