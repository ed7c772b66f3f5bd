"""A wallet of another platform in 200 lines: the contract of commerce in memory, without a database.

It shows that the contract says all that an implementation needs. `fault` names what it does wrong, for the tests of the
suite. Every wallet has 1,000,000 in it at first, but those of `poor`; all wallets are in THB.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import jwt
import msgspec

from protocol.commerce.contract import (
    AUDIENCE,
    TOKEN_LIFE_S,
    Approval,
    IdempotencyKey,
    NewPayment,
    PartOfPayment,
    PaymentReply,
    request_digest,
)
from protocol.ids import new_id
from server.identity.signing_keys import SigningKeys

BODY_BYTES_MAX = 65_536
_STATUS = {"token_invalid": 401, "payment_not_found": 404, "wallet_not_found": 404, "too_large": 413}
_STATUS |= dict.fromkeys(("invalid_argument", "amount_refused", "currency_refused", "own_payee"), 400)

Reply = tuple[int, bytes]


class RefusedError(Exception):
    """A refusal with a code."""


class StandIn:
    """An ASGI app."""

    def __init__(self, keys: SigningKeys, *, poor: UUID, fault: str = "") -> None:
        self._keys = keys
        self._fault = fault
        self._wallets: dict[UUID, int] = defaultdict(lambda: 1_000_000, {poor: 0})
        self._payments: dict[UUID, PaymentReply] = {}
        self._answers: dict[tuple[UUID, str], tuple[bytes, str | UUID]] = {}

    async def __call__(self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")[: BODY_BYTES_MAX + 1]
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        try:
            status, content = self._answer(scope["method"], scope["path"], headers, body)
        except (RefusedError, msgspec.MsgspecError) as error:
            code = str(error) if isinstance(error, RefusedError) else "invalid_argument"
            status = _STATUS.get(code, 409)
            content = msgspec.json.encode({"code": code, "message": "Refused.", "retry_after_s": None})
        start = {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]}
        await send(start)
        await send({"type": "http.response.body", "body": content})

    def _answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        if len(body) > BODY_BYTES_MAX:
            raise RefusedError("too_large")
        key = headers.get("idempotency-key", "")
        who = self._identify(headers, request_digest(method, path, key, body))
        _, _, resource, *named = path.split("/")
        if resource != "payments" or (method == "GET" and len(named) != 1):
            raise RefusedError("unknown_command")
        if method == "GET":
            return 200, msgspec.json.encode(self._find(UUID(named[0]), who))
        msgspec.convert(key, IdempotencyKey)
        said = _decode(named, body)
        digest = hashlib.sha256(repr((named, said)).encode()).digest()
        kept = self._answers.get((who, key))
        if kept is not None and kept[0] != digest and self._fault != "any body":
            raise RefusedError("key_reused")
        if kept is None or (isinstance(kept[1], str) and self._fault == "forgets refusals"):
            kept = self._answers[who, key] = (digest, self._take(named, said, who))
        if isinstance(kept[1], str):
            raise RefusedError(kept[1])
        return 200 if named else 201, msgspec.json.encode(self._payments[kept[1]])

    def _identify(self, headers: dict[str, str], digest: str) -> UUID:
        token = headers.get("authorization", "").removeprefix("Bearer ")
        try:
            public = self._keys.find_accepted(jwt.get_unverified_header(token).get("kid"))
            if public is None:
                raise RefusedError("token_invalid")
            required = ["exp", "iat", "sub"]
            claims = jwt.decode(token, public, algorithms=["EdDSA"], audience=AUDIENCE, options={"require": required})
        except jwt.PyJWTError:
            raise RefusedError("token_invalid") from None
        is_for_it = claims.get("digest") == digest or self._fault == "any request"
        if not is_for_it or claims["exp"] - claims["iat"] > TOKEN_LIFE_S:
            raise RefusedError("token_invalid")
        return UUID(claims["sub"])

    def _take(self, named: list[str], said: Any, who: UUID) -> str | UUID:
        """Take a step: the payment after it, or the code of a refusal."""
        try:
            if not named:
                return self._begin(said, who)
            row = self._find(UUID(named[0]), who)
            taken = self._step(named[1])(row, said, who)
        except RefusedError as error:
            return str(error)
        self._payments[row.id] = msgspec.structs.replace(taken, version=row.version + 1)
        return row.id

    def _step(self, name: str) -> Callable[[PaymentReply, Any, UUID], PaymentReply]:
        steps: dict[str, Callable[[PaymentReply, Any, UUID], PaymentReply]] = {
            "approve": self._approve,
            "decline": self._decline,
            "cancel": self._cancel,
            "capture": self._capture,
            "refund": self._refund,
        }
        return steps[name]

    def _find(self, payment: UUID, who: UUID) -> PaymentReply:
        row = self._payments.get(payment)
        if row is None or who not in (row.payer, row.payee):
            raise RefusedError("payment_not_found")
        return row

    def _begin(self, new: NewPayment, who: UUID) -> UUID:
        if new.payer == new.payee:
            raise RefusedError("own_payee")
        if new.currency != "THB":
            raise RefusedError("currency_refused")
        if who != (new.payee if new.intent == "request" else new.payer):
            raise RefusedError("wallet_not_found")
        named = {name: getattr(new, name) for name in ("payer", "payee", "amount_minor", "currency", "dialog", "order")}
        row = PaymentReply(id=UUID(bytes=new_id()), version=1, state="requested", **named)
        if new.intent == "send":
            row = self._pay(row, later=new.capture == "later")
        self._payments[row.id] = row
        return row.id

    def _pay(self, row: PaymentReply, *, later: bool = False) -> PaymentReply:
        if self._wallets[row.payer] < row.amount_minor:
            raise RefusedError("insufficient")
        self._wallets[row.payer] -= row.amount_minor
        if later:
            return msgspec.structs.replace(row, state="held")
        self._wallets[row.payee] += row.amount_minor
        return msgspec.structs.replace(row, state="paid", captured_minor=row.amount_minor)

    def _approve(self, row: PaymentReply, seen: Approval, who: UUID) -> PaymentReply:
        _check(who == row.payer, "not_allowed")
        _check(row.state == "requested", "payment_state")
        is_as_seen = (seen.version, seen.amount_minor, seen.payee) == (row.version, row.amount_minor, row.payee)
        _check(is_as_seen or self._fault == "approves anything", "changed")
        return self._pay(row)

    def _decline(self, row: PaymentReply, _said: Any, who: UUID) -> PaymentReply:
        _check(who == row.payer, "not_allowed")
        _check(row.state == "requested", "payment_state")
        return msgspec.structs.replace(row, state="declined")

    def _cancel(self, row: PaymentReply, _said: Any, who: UUID) -> PaymentReply:
        _check(who == row.payee, "not_allowed")
        _check(row.state in ("requested", "held"), "payment_state")
        if row.state == "held":
            self._wallets[row.payer] += row.amount_minor
        return msgspec.structs.replace(row, state="cancelled")

    def _capture(self, row: PaymentReply, part: PartOfPayment, who: UUID) -> PaymentReply:
        _check(who == row.payee, "not_allowed")
        _check(row.state == "held" or self._fault == "captures twice", "payment_state")
        amount = part.amount_minor or row.amount_minor
        _check(amount <= row.amount_minor, "amount_refused")
        self._wallets[row.payee] += amount
        self._wallets[row.payer] += row.amount_minor - amount
        return msgspec.structs.replace(row, state="paid", captured_minor=amount)

    def _refund(self, row: PaymentReply, part: PartOfPayment, who: UUID) -> PaymentReply:
        _check(who == row.payee, "not_allowed")
        _check(row.state in ("paid", "refunded"), "payment_state")
        left = row.captured_minor - row.refunded_minor
        amount = part.amount_minor or left
        _check(1 <= amount <= left or self._fault == "refunds too much", "amount_refused")
        self._wallets[row.payee] -= amount
        self._wallets[row.payer] += amount
        return msgspec.structs.replace(row, state="refunded", refunded_minor=row.refunded_minor + amount)


def _decode(named: list[str], body: bytes) -> Any:
    if not named:
        return msgspec.json.decode(body, type=NewPayment)
    if named[1] == "approve":
        return msgspec.json.decode(body, type=Approval)
    return msgspec.json.decode(body or b"{}", type=PartOfPayment)


def _check(holds: bool, code: str) -> None:
    if not holds:
        raise RefusedError(code)
