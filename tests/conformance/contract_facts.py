"""What every implementation of `protocol/commerce/contract.py` does: one function for each fact."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import msgspec

from protocol.commerce.contract import request_digest
from protocol.commerce.currencies import AMOUNT_MINOR_MAX
from server.identity.signing_keys import SigningKeys, new_pem
from tests.conformance.contract_caller import Caller, code, new_uuid, seen

BAD_AMOUNTS = (b"0", b"-1", b"10.5", b"%d" % (AMOUNT_MINOR_MAX + 1), b'"5"', b"true", b"null")
FORM = {"invalid_argument", "malformed", "amount_refused"}
FOREIGN = {"wallet_not_found", "not_allowed"}
NOT_SIGNED_IN = {"token_invalid", "token_expired"}


async def a_send_pays_at_once(caller: Caller) -> None:
    payment = await caller.begin("send")
    assert (payment["state"], payment["version"], payment["captured_minor"]) == ("paid", 1, 10), payment
    assert (await caller.state(payment))["state"] == "paid"


async def a_request_is_paid_when_it_is_approved_as_seen(caller: Caller) -> None:
    payment = await caller.begin("request")
    assert (payment["state"], payment["version"]) == ("requested", 1), payment
    for changed in ({"version": 2}, {"amount_minor": 9}, {"payee": str(caller.on.payer)}):
        answer = await caller.pay(caller.on.payer, f"{payment['id']}/approve", seen(payment, **changed))
        assert code(answer) == "changed", answer.text
    assert (await caller.state(payment))["state"] == "requested"
    paid = await caller.pay(caller.on.payer, f"{payment['id']}/approve", seen(payment))
    assert (paid.status_code, paid.json()["state"], paid.json()["version"]) == (200, "paid", 2), paid.text
    again = await caller.pay(caller.on.payer, f"{payment['id']}/approve", seen(payment))
    assert code(again) == "payment_state", again.text


async def only_the_payer_approves(caller: Caller) -> None:
    payment = await caller.begin("request")
    for who in (caller.on.payee, caller.stranger, caller.on.poor):
        answer = await caller.pay(who, f"{payment['id']}/approve", seen(payment))
        assert code(answer) in {"payment_not_found", "not_allowed"}, answer.text
    assert (await caller.state(payment))["state"] == "requested"


async def a_request_is_declined_or_cancelled_once(caller: Caller) -> None:
    for who, step, state in (
        (caller.on.payer, "decline", "declined"),
        (caller.on.payee, "cancel", "cancelled"),
    ):
        payment = await caller.begin("request")
        answer = await caller.pay(who, f"{payment['id']}/{step}")
        assert (answer.status_code, answer.json()["state"]) == (200, state), answer.text
        assert code(await caller.pay(who, f"{payment['id']}/{step}")) == "payment_state"
        late = await caller.pay(caller.on.payer, f"{payment['id']}/approve", seen(payment))
        assert code(late) == "payment_state", late.text


async def a_hold_is_captured_once_and_never_above(caller: Caller) -> None:
    payment = await caller.begin("send", capture="later")
    assert payment["state"] == "held", payment
    path = f"{payment['id']}/capture"
    assert code(await caller.pay(caller.on.payee, path, {"amount_minor": 11})) == "amount_refused"
    captured = await caller.pay(caller.on.payee, path, {"amount_minor": 4})
    assert (captured.json()["state"], captured.json()["captured_minor"]) == ("paid", 4), captured.text
    assert code(await caller.pay(caller.on.payee, path)) == "payment_state"


async def a_hold_that_was_cancelled_is_not_captured(caller: Caller) -> None:
    payment = await caller.begin("send", capture="later")
    assert (await caller.pay(caller.on.payee, f"{payment['id']}/cancel")).json()["state"] == "cancelled"
    assert code(await caller.pay(caller.on.payee, f"{payment['id']}/capture")) == "payment_state"


async def refunds_never_sum_above_what_was_captured(caller: Caller) -> None:
    payment = await caller.begin("send")
    path = f"{payment['id']}/refund"
    part = await caller.pay(caller.on.payee, path, {"amount_minor": 4})
    assert (part.json()["state"], part.json()["refunded_minor"]) == ("refunded", 4), part.text
    assert code(await caller.pay(caller.on.payee, path, {"amount_minor": 7})) == "amount_refused"
    rest = await caller.pay(caller.on.payee, path, {})
    assert rest.json()["refunded_minor"] == 10, rest.text
    assert code(await caller.pay(caller.on.payee, path)) in {"amount_refused", "payment_state"}


async def a_key_is_one_payment_however_often_it_comes(caller: Caller) -> None:
    key, body = str(new_uuid()), caller.new("send")
    answers = await asyncio.gather(*(caller.pay(caller.on.payer, "", body, key=key) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {httpx.codes.CREATED}, answers[0].text
    assert len({answer.json()["id"] for answer in answers}) == 1
    await caller.pay(caller.on.payee, f"{answers[0].json()['id']}/refund")
    again = await caller.pay(caller.on.payer, "", {**body, "capture": "now", "order": None}, key=key)
    assert (again.status_code, again.json()["state"]) == (201, "refunded"), again.text


async def a_key_with_another_body_is_refused(caller: Caller) -> None:
    key = str(new_uuid())
    first = await caller.pay(caller.on.payer, "", caller.new("send", 10), key=key)
    other = await caller.pay(caller.on.payer, "", caller.new("send", 11), key=key)
    assert (first.status_code, code(other)) == (201, "key_reused"), other.text


async def keys_belong_to_their_caller(caller: Caller) -> None:
    key = str(new_uuid())
    one = await caller.pay(caller.on.payer, "", caller.new("send"), key=key)
    other = await caller.pay(caller.on.payee, "", caller.new("request"), key=key)
    assert (one.status_code, other.status_code) == (201, 201), other.text
    assert one.json()["id"] != other.json()["id"]


async def a_refusal_is_final_for_its_key(caller: Caller) -> None:
    key, on = str(new_uuid()), caller.on
    body = {**caller.new("send", 10), "payer": on.poor}
    assert code(await caller.pay(on.poor, "", body, key=key)) == "insufficient"
    funded = await caller.pay(on.payer, "", {**caller.new("send", 10), "payee": on.poor})
    assert funded.status_code == httpx.codes.CREATED, funded.text
    assert code(await caller.pay(on.poor, "", body, key=key)) == "insufficient"
    spent = await caller.pay(on.poor, "", body)
    assert spent.status_code == httpx.codes.CREATED, spent.text


async def a_step_needs_a_key(caller: Caller) -> None:
    for key in (None, "k" * 256, "two words"):
        answer = await caller.pay(caller.on.payer, "", caller.new("send"), key=key)
        assert code(answer) in FORM, answer.text


async def an_amount_is_1_to_10_to_the_15(caller: Caller) -> None:
    held = await caller.begin("send", capture="later")
    good = str(caller.new("send", 7)["amount_minor"]).encode()
    for amount in BAD_AMOUNTS:
        for path, body in (("", caller.new("send", 7)), (f"{held['id']}/capture", {"amount_minor": 7})):
            if path and amount == b"null":
                continue
            content = msgspec.json.encode(body).replace(b":" + good, b":" + amount, 1)
            who = caller.on.payee if path else caller.on.payer
            answer = await caller.pay(who, path, content=content)
            assert code(answer) in FORM, (amount, answer.text)
    assert (await caller.state(held))["state"] == "held"


async def a_body_has_the_fields_of_the_contract_only(caller: Caller) -> None:
    for changed in ({"note": "x"}, {"currency": "thb"}, {"intent": "take"}, {"expires_in_s": 1}, {"payee": "me"}):
        answer = await caller.pay(caller.on.payer, "", caller.new("send") | changed)
        assert code(answer) in FORM, answer.text
    for content in (b"", b"{", b"[]", b"null"):
        assert code(await caller.pay(caller.on.payer, "", content=content)) in FORM


async def a_body_of_a_megabyte_is_refused(caller: Caller) -> None:
    content = b'{"note":"' + b"x" * 2**20 + b'"}'
    assert code(await caller.pay(caller.on.payer, "", content=content)) in FORM | {"too_large"}


async def an_unknown_currency_is_refused(caller: Caller) -> None:
    answer = await caller.pay(caller.on.payer, "", caller.new("send", currency="ZZZ"))
    assert code(answer) == "currency_refused", answer.text


async def nobody_pays_themselves(caller: Caller) -> None:
    answer = await caller.pay(caller.on.payer, "", caller.new("send", payee=caller.on.payer))
    assert code(answer) == "own_payee", answer.text


async def nobody_spends_or_requests_for_another(caller: Caller) -> None:
    for intent in ("send", "request"):
        for who in (caller.stranger, caller.on.poor):
            answer = await caller.pay(who, "", caller.new(intent))
            assert code(answer) in FOREIGN, answer.text


async def strangers_learn_nothing(caller: Caller) -> None:
    payment = await caller.begin("request")
    answers = [await caller.ask(caller.stranger, "GET", f"payments/{payment['id']}")]
    answers += [
        await caller.pay(caller.stranger, f"{payment['id']}/{step}")
        for step in ("decline", "cancel", "capture", "refund")
    ]
    answers.append(await caller.ask(caller.on.payer, "GET", f"payments/{new_uuid()}"))
    assert {(answer.status_code, code(answer)) for answer in answers} == {(404, "payment_not_found")}


async def a_token_is_for_its_request_and_for_a_minute(caller: Caller) -> None:
    others = SigningKeys.from_pem(new_pem())
    for changed in (
        {"digest": request_digest("POST", "/v1/payments", "k", b"another body")},
        {"digest": None},
        {"aud": "tchat"},
        {"iat": 1, "exp": 61},
        {"exp": 2**40},
        {"sub": None},
        {"keys": others},
    ):
        answer = await caller.pay(caller.on.payer, "", caller.new("send"), key="k", **changed)
        assert answer.status_code == httpx.codes.UNAUTHORIZED, answer.text
        assert code(answer) in NOT_SIGNED_IN, answer.text


FACTS: tuple[Callable[[Caller], Awaitable[None]], ...] = (
    a_send_pays_at_once,
    a_request_is_paid_when_it_is_approved_as_seen,
    only_the_payer_approves,
    a_request_is_declined_or_cancelled_once,
    a_hold_is_captured_once_and_never_above,
    a_hold_that_was_cancelled_is_not_captured,
    refunds_never_sum_above_what_was_captured,
    a_key_is_one_payment_however_often_it_comes,
    a_key_with_another_body_is_refused,
    keys_belong_to_their_caller,
    a_refusal_is_final_for_its_key,
    a_step_needs_a_key,
    an_amount_is_1_to_10_to_the_15,
    a_body_has_the_fields_of_the_contract_only,
    a_body_of_a_megabyte_is_refused,
    an_unknown_currency_is_refused,
    nobody_pays_themselves,
    nobody_spends_or_requests_for_another,
    strangers_learn_nothing,
    a_token_is_for_its_request_and_for_a_minute,
)
