"""Protections of approvals, each taken away: the count that a run then finds, and the attacks that meet it.

Those of the service are replaced in this process, those of the ledger in the database of the run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import PropertyMock, patch
from uuid import UUID

import jwt

from protocol.commerce import contract
from protocol.ids import NIL
from server.commerce.request_tokens import RequestTokens
from tests.adversity.money_breaks import edit_function

_SERVICE = "server.commerce"


@dataclass(frozen=True)
class ApprovalBreak:
    """What is broken, and the count that must say so.

    `replaced`: by name, what stands in its place. `edits`: texts of the ledger's functions, as in `money_breaks`;
    `before` is done first.
    """

    count: str
    attacks: tuple[str, ...] = ()
    replaced: Mapping[str, Any] = field(default_factory=dict)
    edits: tuple[tuple[str, str, str], ...] = ()
    before: str = ""

    @contextlib.contextmanager
    def applied(self) -> Iterator[list[str]]:
        """Replace what is of the service; gives the statements that break the ledger."""
        with contextlib.ExitStack() as stack:
            for name, replacement in self.replaced.items():
                stack.enter_context(patch(name, replacement))
            yield [self.before] * bool(self.before) + [edit_function(*edit) for edit in self.edits]


def _answers(value: Any) -> Callable[..., Any]:
    return lambda *_, **__: value


def _answers_soon(value: Any) -> Callable[..., Any]:
    async def answer(*_: Any, **__: Any) -> Any:
        return value

    return answer


def _read_unverified(_self: RequestTokens, token: str, _key: Any, _method: str) -> Any:
    return jwt.decode(token, options={"verify_signature": False})


def _read_any_audience(_self: RequestTokens, token: str, key: Any, _method: str) -> Any:
    return jwt.decode(token, key, algorithms=["EdDSA"], options={"verify_aud": False, "verify_exp": False})


_read = RequestTokens._read


def _read_as_a_read(self: RequestTokens, token: str, key: Any, _method: str) -> Any:
    return _read(self, token, key, "GET")


_text = contract.approval_text
_send_text = contract.send_text


def _text_of_any_payment(_payment: UUID, approval: Any) -> bytes:
    return _text(UUID(bytes=NIL), approval)


def _send_text_of_any_key(_key: str, new: Any) -> bytes:
    return _send_text("", new)


def _text_without_amount(payment: UUID, approval: Any) -> bytes:
    return f"{payment} {approval.version} {approval.currency} {approval.payee}".encode()


def _texts(text: Callable[..., bytes]) -> dict[str, Any]:
    """Server and devices sign the same text, so that honest approvals pass."""
    return {f"{_SERVICE}.payment_steps.approval_text": text, "tests.support.commerce_world.approval_text": text}


_FORGET = "DELETE FROM keys WHERE key_id = p_key;\n    IF false THEN"
_PAYER = ("approve_payment", " AND p.payer_id = p_actor FOR", " FOR")
_SEEN = "(v.version, v.amount, v.currency, v.payee_id) IS DISTINCT FROM (p_version, p_amount, p_currency, p_payee)"


def _unseen(name: str) -> ApprovalBreak:
    """One of the fields that are approved is not compared."""
    fields = [each for each in ("version", "amount", "currency", "payee") if each != name]
    columns = ", ".join("v.payee_id" if each == "payee" else f"v.{each}" for each in fields)
    compared = f"({columns}) IS DISTINCT FROM ({', '.join(f'p_{each}' for each in fields)})"
    return ApprovalBreak("moved_unapproved", ("show_something_else",), edits=(("approve_payment", _SEEN, compared),))


BREAKS: dict[str, ApprovalBreak] = {
    "token_is_for_any_request": ApprovalBreak(
        "moved_unapproved",
        ("use_tokens_for_other_requests",),
        {f"{_SERVICE}.request_tokens.hmac.compare_digest": _answers(True)},
    ),
    "token_never_ends": ApprovalBreak(
        "moved_unapproved", ("come_late",), {f"{_SERVICE}.request_tokens.check_times": _answers(None)}
    ),
    "token_is_not_verified": ApprovalBreak(
        "moved_unapproved", ("forge_tokens",), {f"{_SERVICE}.request_tokens.RequestTokens._read": _read_unverified}
    ),
    "token_is_for_any_audience": ApprovalBreak(
        "moved_unapproved", ("forge_tokens",), {f"{_SERVICE}.request_tokens.RequestTokens._read": _read_any_audience}
    ),
    "access_token_moves_money": ApprovalBreak(
        "moved_unapproved", ("forge_tokens",), {f"{_SERVICE}.request_tokens.RequestTokens._read": _read_as_a_read}
    ),
    "tenant_is_not_compared": ApprovalBreak(
        "moved_unapproved",
        ("forge_tokens",),
        edits=(("approve_payment", " AND p.tenant_id = p_tenant AND", " AND"),),
    ),
    "anybody_approves": ApprovalBreak("moved_unapproved", ("approve_for_others",), edits=(_PAYER,)),
    "services_send": ApprovalBreak(
        "moved_unapproved",
        ("approve_for_others",),
        {f"{_SERVICE}.payment_steps.PaymentSteps._judge_new": _answers_soon(None)},
    ),
    "services_act_as_people": ApprovalBreak(
        "moved_unapproved",
        ("approve_for_others",),
        {f"{_SERVICE}.asker.Asker.is_service": PropertyMock(return_value=False)},
        (_PAYER,),
    ),
    "version_is_not_compared": _unseen("version"),
    "amount_is_not_compared": _unseen("amount"),
    "currency_is_not_compared": _unseen("currency"),
    "payee_is_not_compared": _unseen("payee"),
    "no_proof_is_needed": ApprovalBreak(
        "moved_unapproved",
        ("forge_proofs",),
        {f"{_SERVICE}.approval_proofs.ApprovalProofs.is_needed": _answers_soon(False)},
    ),
    "any_proof_will_do": ApprovalBreak(
        "moved_unapproved",
        ("forge_proofs",),
        {f"{_SERVICE}.approval_proofs.ApprovalProofs.is_proven": _answers_soon(True)},
    ),
    "signature_is_for_any_payment": ApprovalBreak("moved_unapproved", ("forge_proofs",), _texts(_text_of_any_payment)),
    "signature_is_for_any_amount": ApprovalBreak("moved_unapproved", ("forge_proofs",), _texts(_text_without_amount)),
    "signature_of_a_send_is_for_any_key": ApprovalBreak(
        "approved_twice",
        ("forge_proofs_of_sends",),
        {
            f"{_SERVICE}.payment_steps.send_text": _send_text_of_any_key,
            "tests.support.commerce_world.send_text": _send_text_of_any_key,
        },
    ),
    "step_up_is_for_any_approval": ApprovalBreak(
        "moved_unapproved", ("forge_step_ups",), {f"{_SERVICE}.step_ups.hmac.compare_digest": _answers(True)}
    ),
    "step_up_never_ends": ApprovalBreak(
        "moved_unapproved", ("forge_step_ups",), {f"{_SERVICE}.step_ups.check_times": _answers(None)}
    ),
    "step_up_is_never_spent": ApprovalBreak(
        "moved_unapproved",
        ("forge_step_ups",),
        edits=(("spend_step_up", "RETURN (SELECT s.key_id = p_key", "RETURN (SELECT true"),),
    ),
    "state_is_not_looked_at": ApprovalBreak(
        "approved_twice",
        ("approve_on_two_devices",),
        edits=(("approve_payment", "ELSIF v.state <> ${PaymentState.REQUESTED} THEN", "ELSIF false THEN"),),
    ),
    "payment_is_not_locked": ApprovalBreak(
        "approved_twice",
        ("approve_on_two_devices",),
        edits=(("approve_payment", "p.payer_id = p_actor FOR NO KEY UPDATE", "p.payer_id = p_actor"),),
        before="ALTER TABLE payment_versions DROP CONSTRAINT payment_versions_pkey",
    ),
    "ended_requests_are_approved": ApprovalBreak(
        "moved_unapproved",
        ("approve_what_has_ended",),
        edits=(("approve_payment", "ELSIF v.state <> ${PaymentState.REQUESTED} THEN", "ELSIF false THEN"),),
    ),
    "answers_are_not_kept": ApprovalBreak(
        "approved_twice",
        ("replay_requests",),
        edits=(
            (
                "begin_payment",
                "IF v_answer.outcome IS NOT NULL THEN",
                _FORGET,
            ),
        ),
    ),
    "refunds_have_no_bound": ApprovalBreak(
        "approved_twice",
        ("take_it_twice",),
        edits=(
            (
                "refund_payment",
                "v_amount NOT BETWEEN 1 AND v.captured - v.refunded - v.disputed",
                "false",
            ),
        ),
        before="ALTER TABLE payments DROP CONSTRAINT payments_check",
    ),
    "anybody_takes_steps": ApprovalBreak(
        "moved_unapproved",
        ("take_steps_of_others",),
        {f"{_SERVICE}.payment_steps._judge_step": _answers(None)},
    ),
    "services_transfer_for_anybody": ApprovalBreak(
        "moved_unapproved",
        ("move_without_payments",),
        {f"{_SERVICE}.chains._may_take": _answers(True)},
    ),
}
"""By name; each is noticed by the count that it names."""
