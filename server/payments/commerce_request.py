"""What a command about a payment asks of commerce: a request of the contract, of the fields that its form allows."""

from __future__ import annotations

import base64
from typing import Any
from uuid import UUID

import msgspec

from protocol.commerce.contract import Approval, NewPayment, PartOfPayment, PaymentReply, Proof, chat_key
from protocol.commerce.currencies import is_known
from protocol.errors import ErrorCode
from protocol.ids import to_text
from protocol.payment_commands import PAY_FORMS, Pay, PayAction
from server.refusals import RequestRefusedError

_PAYMENTS = "/v1/payments"
_ALWAYS = frozenset({"id", "dialog", "n", "action"})
_DEFAULTS = {field.name: field.default for field in msgspec.structs.fields(Pay) if field.name not in _ALWAYS}


class CommerceRequest(msgspec.Struct, frozen=True):
    """A request of the contract. `expected`: fields that the payment of its answer must have."""

    method: str
    path: str
    key: str = ""
    body: bytes = b""
    expected: dict[str, Any] = {}

    def is_about(self, reply: PaymentReply) -> bool:
        """Whether an answer is about what was asked for."""
        return all(getattr(reply, name) == value for name, value in self.expected.items())


def make_read(payment: bytes) -> CommerceRequest:
    """The request for a payment as it is now."""
    return CommerceRequest("GET", f"{_PAYMENTS}/{to_text(payment)}", expected={"id": UUID(bytes=payment)})


def make_request(command: Pay, author: bytes, device: bytes) -> CommerceRequest:
    """The request that a command makes; raises RequestRefusedError if a field is missing, or not of its action.

    Its key is the same for the same number of a device in a dialog, on every node and after every reconnect.
    """
    _check_form(command)
    key = chat_key(UUID(bytes=device), UUID(bytes=command.dialog), command.n)
    if command.action in (PayAction.REQUEST, PayAction.SEND):
        new = _make_payment(command, author, device)
        expected = {name: getattr(new, name) for name in ("payer", "payee", "amount_minor", "currency")}
        return CommerceRequest("POST", _PAYMENTS, key, msgspec.json.encode(new), expected)
    assert command.payment is not None
    body: msgspec.Struct | None = None
    if command.action is PayAction.APPROVE:
        body = _make_approval(command, device)
    elif command.action in (PayAction.REFUND, PayAction.CAPTURE):
        body = PartOfPayment(amount_minor=command.amount_minor)
    path = f"{_PAYMENTS}/{to_text(command.payment)}/{command.action.name.lower()}"
    content = b"" if body is None else msgspec.json.encode(body)
    return CommerceRequest("POST", path, key, content, {"id": UUID(bytes=command.payment)})


def _check_form(command: Pay) -> None:
    form, action = PAY_FORMS[command.action], command.action.name.lower()
    given = {name for name, default in _DEFAULTS.items() if getattr(command, name) != default}
    if missing := sorted(form.needs - given):
        raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, f"{action} needs {', '.join(missing)}")
    if extra := sorted(given - form.needs - form.may_have):
        raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, f"{action} has no {', '.join(extra)}")
    if command.currency is not None and not is_known(command.currency):
        raise RequestRefusedError(ErrorCode.CURRENCY_REFUSED)


def _make_payment(command: Pay, author: bytes, device: bytes) -> NewPayment:
    assert command.party is not None
    assert command.amount_minor is not None
    assert command.currency is not None
    asks = command.action is PayAction.REQUEST
    payer, payee = (command.party, command.payee or author) if asks else (author, command.party)
    if payer == payee:
        raise RequestRefusedError(ErrorCode.OWN_PAYEE)
    return NewPayment(
        intent="request" if asks else "send",
        payer=UUID(bytes=payer),
        payee=UUID(bytes=payee),
        amount_minor=command.amount_minor,
        currency=command.currency,
        capture="later" if command.capture_later else "now",
        dialog=UUID(bytes=command.dialog),
        order=None if command.order is None else UUID(bytes=command.order),
        expires_in_s=command.expires_in_s,
        proof=_make_proof(command, device),
    )


def _make_approval(command: Pay, device: bytes) -> Approval:
    assert command.version is not None
    assert command.amount_minor is not None
    assert command.currency is not None
    assert command.payee is not None
    return Approval(
        version=command.version,
        amount_minor=command.amount_minor,
        currency=command.currency,
        payee=UUID(bytes=command.payee),
        proof=_make_proof(command, device),
    )


def _make_proof(command: Pay, device: bytes) -> Proof | None:
    if command.signature is None and not command.step_up:
        return None
    signature = None if command.signature is None else base64.b64encode(command.signature).decode("ascii")
    return Proof(device=UUID(bytes=device), signature=signature, step_up=command.step_up or None)
