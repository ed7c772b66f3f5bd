"""What goes in and out of the store of intents: what gateways are asked for, what their objects changed, suspense."""

from __future__ import annotations

import msgspec

from protocol.commerce.intent_states import EffectKind, IntentKind, IntentState


class NewTopUpRow(msgspec.Struct, frozen=True, kw_only=True):
    """Money that an owner asks to be charged with. `life_s`: of a QR code.

    `payment`, `version` and `payee` are those of a request that its payer, the owner, approves with the money.
    """

    intent: bytes
    tenant: int
    owner: bytes
    gateway: str
    amount: int
    currency: str
    method: str
    token: str | None = None
    life_s: int | None = None
    payment: bytes | None = None
    version: int | None = None
    payee: bytes | None = None


class IntentRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway was asked for; amounts in minor units, times in microseconds since 1970.

    `token` is the gateway's, of a card or an account, or the object that a refund pays back; gone when it has ended.
    `fulfils`: `payment` was approved with this money.
    """

    intent: bytes
    kind: IntentKind
    tenant: int
    owner: bytes
    gateway: str
    wallet: bytes
    payment: bytes | None
    amount: int
    currency: str
    method: str
    token: str | None
    life_s: int | None
    state: IntentState
    written_us: int
    settled_us: int
    due_us: int | None
    lease: int
    failures: int
    object_id: str | None
    fulfils: bool
    qr: str | None
    expires_us: int | None
    reason: str | None


class EffectRow(msgspec.Struct, frozen=True, kw_only=True):
    """An effect to apply. `change`: what the gateway owes us more; `parent` of a chargeback: what was paid."""

    object_id: str
    kind: EffectKind
    change: int
    currency: str
    intent: bytes | None
    parent: str | None


class HintRow(msgspec.Struct, frozen=True):
    """An object to fetch; `noted` counts the webhooks about it."""

    kind: str
    object_id: str
    noted: int
    failures: int


class SuspenseRow(msgspec.Struct, frozen=True, kw_only=True):
    """Money that fits nothing; below zero, a gateway took it and nobody was charged with it."""

    item: int
    gateway: str
    object_id: str
    effect: EffectKind
    intent: bytes | None
    currency: str
    amount: int
    at_us: int


class GatewayTotals(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway in a currency: what it owes us by our books, and what of it is in suspense."""

    gateway: str
    currency: str
    owed: int
    suspense: int


class GatewayBacklog(msgspec.Struct, frozen=True, kw_only=True):
    """What is under way at a gateway: up to where it was read, open intents and their oldest, hints that wait.

    Counts stop at BACKLOG_MAX.
    """

    gateway: str
    read_ms: int | None
    open_intents: int
    oldest_open_us: int | None
    unknown_intents: int
    hints: int


class GatewayAges(msgspec.Struct, frozen=True):
    """In seconds: the oldest open intent, the oldest suspense, the gateway that was read longest ago."""

    intent_s: float
    suspense_s: float
    behind_s: float
