"""What a session may use: the node's parts, handed over by the composition root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from server.clock import Clock
from server.config.settings import SessionSettings, SyncSettings
from server.delivery.registry import Registry
from server.identity.tokens import Claims, Tokens
from server.session.wheel import TimingWheel
from server.writing.horizon import Horizon
from server.writing.pipeline import Pipeline
from storage.timelines import Timelines

if TYPE_CHECKING:
    from server.delivery.flush_turn import FlushTurn
    from server.delivery.presence import Presence
    from server.delivery.receipts import Receipts
    from server.delivery.rooms import Rooms
    from server.session.session import Session


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
    writes: FlushTurn
    sign_out: Callable[[Claims], Awaitable[None]]
