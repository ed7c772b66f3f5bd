"""The contract of a payment gateway: what commerce may call, and what it may believe.

Who calls writes the intent first, with its reference and time, and commits it. So after a crash it is known what may
have been asked, and `find` or the same call again says what became of it:

- An answer came: an object, or a refusal. Both are final; the object may still be pending.
- FateUnknown: within the key window, the same call again is harmless. Past it nothing may be charged again: `find`.
  What `find` has not, `settle_s` after the last call ended, never happened.
- GatewayUnavailableError: this call did nothing. One before it may have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from protocol.commerce.currencies import AMOUNT_MINOR_MAX, is_known
from server.commerce.gateways.gateway_objects import GatewayObject, ObjectKind


class GatewayCall(msgspec.Struct, frozen=True, kw_only=True):
    """What every call that moves money has. `written_at_ms`: when the intent was written, before the first call."""

    reference: str
    written_at_ms: int
    amount_minor: int
    currency: str

    def __post_init__(self) -> None:
        assert 1 <= self.amount_minor <= AMOUNT_MINOR_MAX, "amounts are judged before the intent is written"
        assert is_known(self.currency), "currencies are judged before the intent is written"


class ChargeCall(GatewayCall, frozen=True, kw_only=True):
    """Ask to be paid. `source` is the gateway's token of a card. A QR code has `expires_in_s` instead."""

    method: Literal["card", "promptpay", "qris"]
    source: str | None = None
    expires_in_s: int | None = None


class RefundCall(GatewayCall, frozen=True, kw_only=True):
    """Pay back some of the money under `parent`: a charge of a card, or a payment."""

    parent: str


class PayoutCall(GatewayCall, frozen=True, kw_only=True):
    """Pay to a bank account; `destination` is the gateway's token of it."""

    destination: str


class GatewayRefusal(msgspec.Struct, frozen=True):
    """Nothing moved, and the same reference will never move anything. `reason` is the gateway's word, for staff."""

    reason: str


class FateUnknown(msgspec.Struct, frozen=True):
    """It may have happened, or may still. `detail` is for staff."""

    detail: str


Answer = GatewayObject | GatewayRefusal | FateUnknown
"""How a call ended."""


class GatewayUnavailableError(Exception):
    """The gateway could not be asked, or did not do it, for now; nothing came of this call."""

    def __init__(self, detail: str, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class ObjectPage(msgspec.Struct, frozen=True):
    """Some objects, and where the next page begins; None: this is the last one.

    `now_ms` is the gateway's own time when it answered, if it says it: a window that ends after it is not complete.
    """

    objects: Sequence[GatewayObject]
    next_page: str | None = None
    now_ms: int | None = None


class WebhookHint(msgspec.Struct, frozen=True):
    """That an object may have changed: fetch it."""

    kind: ObjectKind
    id: str


class Gateway(Protocol):
    """One gateway, as one merchant.

    * Amounts are minor units of the currency's ISO exponent, whatever the gateway uses.
    * The reference is the key of a call, of any kind: while it is younger than `key_window_s` a repeated call is one
      call, and gets its first answer again, refusals included. What is older is not sent: FateUnknown.
    * An object that is answered or read is what the gateway holds now, or a moment ago; its effects only get more.
    * Every method ends within a bounded time and holds a bounded part of what the gateway sends.
    * Nothing but charge, refund and payout moves money. None of these is ever called again by the engine itself.
    """

    @property
    def name(self) -> str:
        """The name under which objects and effects are kept; it never changes."""
        ...

    @property
    def key_window_s(self) -> int:
        """How old an intent may be whose call is sent: the gateway's own window, less a call and wrong clocks."""
        ...

    @property
    def settle_s(self) -> int:
        """How long after a call has ended it may still be carried out, or not yet be found or listed."""
        ...

    async def charge(self, call: ChargeCall) -> Answer:
        """Charge a card: the object may be pending. Or make a QR code, to show `qr` of the object.

        A code may be paid late, twice, in part or with too much: each time there is a payment, never an error.
        """
        ...

    async def refund(self, call: RefundCall) -> Answer:
        """Refund in full or in part. All refunds together are never above what was paid; the gateway refuses more.

        A refund that was accepted may fail later, and one that succeeded may be returned.
        """
        ...

    async def payout(self, call: PayoutCall) -> Answer:
        """Pay out. It may fail later, and what succeeded may be returned."""
        ...

    async def fetch(self, kind: ObjectKind, object_id: str) -> GatewayObject | None:
        """The object as it is; None: there is none. Raises GatewayUnavailableError."""
        ...

    async def find(self, kind: ObjectKind, reference: str) -> list[GatewayObject]:
        """The objects that calls with this reference made, oldest first: more than one if the window was missed.

        Raises GatewayUnavailableError.
        """
        ...

    async def list_changed(self, since_ms: int, until_ms: int, page: str | None = None) -> ObjectPage:
        """The objects of every kind whose last change is in [since_ms, until_ms), from `page` on.

        For a window that ended `settle_s` ago the pages have each of them, whatever is added meanwhile. An object that
        changes again meanwhile may be missing: it is in the window of that change. Some may come that are not of the
        window, or twice. Raises GatewayUnavailableError.
        """
        ...

    def read_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookHint | None:
        """What a webhook is about, if it is genuine and of now; None: of nothing that is kept here.

        Names of headers are in small letters. Raises WebhookRefusedError, before the body is parsed if it is too long
        or not signed.
        """
        ...

    async def aclose(self) -> None:
        """Close what is open."""
        ...
