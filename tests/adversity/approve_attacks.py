"""Attacks on the approval of payments.

An attacker has sessions, copies of requests and keys of its own, but no key of the chat and none of another's device.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.commerce.contract import PERSON_AUDIENCE, TOKEN_LIFE_S, Approval, approval_text
from protocol.commerce.payment_states import PaymentStep
from protocol.ids import new_id
from server.identity.signing_keys import SigningKeys, new_pem
from tests.adversity.approve_stage import ABOVE, ApproveStage, Deal, Signed
from tests.support.commerce_world import CHAT_KEYS, Party

Attack = Callable[[ApproveStage], Awaitable[None]]

_UNKNOWN_KEYS = SigningKeys.from_pem(new_pem())
_HOUR_S = 3600


async def replay_requests(stage: ApproveStage) -> None:
    """Copies of an approval and of a send, at the same time and later."""
    deal = await stage.request()
    stage.agree(deal)
    approval = stage.sign(deal.payer, f"{deal.path}/approve", deal.seen)
    payer, payee = stage.rng.sample(stage.people, 2)
    body = payer.payment(payee, stage.rng.randint(1, 400_000), order=UUID(bytes=new_id()))
    stage.agree_to_send(body)
    sent = stage.sign(payer, "/v1/payments", body)
    await asyncio.gather(stage.act(approval), stage.act(sent), *(stage.attack(each) for each in (approval, sent) * 2))
    for each in (sent, approval):
        await stage.attack(each)


async def use_tokens_for_other_requests(stage: ApproveStage) -> None:
    """The token of an approval, for another payment of the same fields, another body, another key, another step."""
    deal = await stage.request()
    other = await stage.request(deal.payment["amount_minor"], payer=deal.payer, payee=deal.payee)
    dear = await stage.request(deal.payment["amount_minor"] + 1, payer=deal.payer, payee=stage.mallory)
    held = await stage.send_held()
    stage.agree(deal)
    signed = stage.sign(deal.payer, f"{deal.path}/approve", deal.seen)
    moved = (
        dataclasses.replace(signed, path=f"{other.path}/approve"),
        dataclasses.replace(signed, path=f"{other.path}/approve", key=stage.new_key()),
        dataclasses.replace(signed, path=f"{dear.path}/approve", content=msgspec.json.encode(dear.seen)),
        dataclasses.replace(signed, path=f"{deal.path}/approve?x"),
    )
    for each in moved:
        await stage.attack(each)
    await stage.act(signed)
    read = stage.sign(held.payee, f"{held.path}/decline")
    await stage.attack(dataclasses.replace(read, path=f"{held.path}/capture"))
    bought = deal.payer.payment(stage.mallory, 100, order=UUID(bytes=new_id()))
    await stage.attack(dataclasses.replace(signed, path="/v1/payments", content=msgspec.json.encode(bought)))


async def come_late(stage: ApproveStage) -> None:
    """Approvals and sends that were kept back until their token had ended."""
    deal = await stage.request()
    now_s = stage.world.clock.wall_ms() // 1000
    late_s = stage.rng.choice((TOKEN_LIFE_S + 10, TOKEN_LIFE_S + _HOUR_S))
    times: dict[str, Any] = {"iat": now_s - late_s, "exp": now_s - late_s + TOKEN_LIFE_S}
    await stage.attack(stage.sign(deal.payer, f"{deal.path}/approve", deal.seen, **times))
    body = deal.payer.payment(deal.payee, 100, order=UUID(bytes=new_id()))
    await stage.attack(stage.sign(deal.payer, "/v1/payments", body, **times))


async def approve_on_two_devices(stage: ApproveStage) -> None:
    """Both are the payer's own, and each has a key of its own: it is one approval."""
    deal = await stage.request()
    stage.agree(deal)
    both = (deal.payer, stage.other_device(deal.payer))
    first, *others = [stage.sign(each, f"{deal.path}/approve", deal.seen) for each in both * 2]
    await asyncio.gather(stage.act(first), *(stage.attack(each) for each in others))
    await stage.attack(stage.sign(both[1], f"{deal.path}/approve", deal.seen | {"version": 2}))


async def show_something_else(stage: ApproveStage) -> None:
    """The payee shows another payment than the one that is approved."""
    deal = await stage.request()
    other = stage.rng.choice([each for each in stage.people if each.id not in (deal.payer.id, deal.payee.id)])
    amount = deal.payment["amount_minor"]
    shown: tuple[dict[str, Any], ...] = (
        {"amount_minor": max(1, amount // 2)} if amount > 1 else {"amount_minor": 2},
        {"version": 2},
        {"payee": str(other.id)},
    )
    for each in shown:
        seen = deal.seen | each
        stage.agree(deal, seen)
        await stage.attack(stage.sign(deal.payer, f"{deal.path}/approve", seen))
    signed = deal.payer.prove(deal.payment["id"], deal.seen | {"currency": "USD"})
    stage.agree(deal, signed)
    await stage.attack(stage.sign(deal.payer, f"{deal.path}/approve", signed))


async def approve_for_others(stage: ApproveStage) -> None:
    """Payee, stranger, bot and services, approve for the payer, and send from their wallet."""
    deal = await stage.request(payee=stage.rng.choice(stage.businesses))
    for who in (deal.payee, stage.mallory, stage.bot):
        await stage.attack(stage.sign(who, f"{deal.path}/approve", deal.seen))
        body = deal.payer.payment(who, 100, order=UUID(bytes=new_id()))
        await stage.attack(stage.sign(who, "/v1/payments", body))
    for service in (*stage.services, stage.world.admin):
        await stage.attack_as_service(service, f"{deal.path}/approve", deal.seen)
        body = deal.payer.payment(deal.payee, 100, order=UUID(bytes=new_id()))
        await stage.attack_as_service(service, "/v1/payments", body)


async def forge_proofs(stage: ApproveStage) -> None:
    """Whoever has the session of a device, but not its key, approves large amounts."""
    deal = await stage.request(ABOVE)
    twin, payer, seen = stage.other_device(deal.payer), deal.payer, deal.seen
    proven = await stage.request(ABOVE, payer=payer, payee=deal.payee)
    stage.agree(proven)
    honest = payer.prove(proven.payment["id"], proven.seen)
    await stage.act(stage.sign(payer, f"{proven.path}/approve", honest))
    by_twin = twin.prove(deal.payment["id"], seen)["proof"]
    of_less = payer.prove(deal.payment["id"], seen | {"amount_minor": ABOVE - 1})["proof"]
    of_other_payee = payer.prove(deal.payment["id"], seen | {"payee": str(stage.mallory.id)})["proof"]
    proofs: tuple[dict[str, Any] | None, ...] = (
        None,
        {},
        {"device": payer.device},
        {"device": payer.device, "signature": ""},
        {"step_up": "eyJhbGciOiJub25lIn0.e30."},
        {"signature": honest["proof"]["signature"]},
        honest["proof"],
        of_less,
        of_other_payee,
        by_twin,
        by_twin | {"device": payer.device},
    )
    for proof in proofs:
        body = seen if proof is None else seen | {"proof": proof}
        await stage.attack(stage.sign(payer, f"{deal.path}/approve", body))
    await stage.attack(stage.sign(payer, f"{deal.path}/approve", seen | {"proof": by_twin}, device_key=None))
    sent = payer.payment(deal.payee, ABOVE, order=UUID(bytes=new_id()))
    await stage.attack(stage.sign(payer, "/v1/payments", sent))


async def forge_proofs_of_sends(stage: ApproveStage) -> None:
    """A large send with the proof of another: another key, another order, another payee, another device."""
    payer, payee = stage.rng.sample(stage.people, 2)
    body = payer.payment(payee, ABOVE, order=UUID(bytes=new_id()))
    key = stage.new_key()
    proven = payer.prove_send(key, body)
    stage.agree_to_send(body)
    honest = stage.sign(payer, "/v1/payments", proven, key=key)
    await asyncio.gather(stage.act(honest), stage.attack(honest))
    await stage.attack(stage.sign(payer, "/v1/payments", proven))
    other = payer.payment(payee, ABOVE, order=UUID(bytes=new_id()))
    own_key = stage.new_key()
    twin = stage.other_device(payer).prove_send(own_key, other)["proof"]
    for proof in (proven["proof"], twin, twin | {"device": payer.device}):
        await stage.attack(stage.sign(payer, "/v1/payments", other | {"proof": proof}, key=own_key))
    to_mallory = payer.payment(stage.mallory, ABOVE, order=UUID(bytes=new_id()))
    proof = payer.prove_send("x", to_mallory | {"payee": payee.id})["proof"]
    await stage.attack(stage.sign(payer, "/v1/payments", to_mallory | {"proof": proof}, key="x"))


async def forge_step_ups(stage: ApproveStage) -> None:
    """The step-up of another approval, person, tenant or audience; late, spent, or signed by nobody of the platform."""
    deal, other = await stage.request(ABOVE), await stage.request(ABOVE)
    payer = deal.payer
    text, elsewhere = _text(deal), _text(other)
    now_s = stage.world.clock.wall_ms() // 1000
    proofs = (
        payer.step_up(elsewhere),
        payer.step_up(text, sub=str(stage.mallory.id)),
        payer.step_up(text, tenant=2),
        payer.step_up(text, aud="commerce"),
        payer.step_up(text, iat=now_s - 120, exp=now_s - 60),
        payer.step_up(text, signed_by=_UNKNOWN_KEYS),
        payer.step_up(text, signed_by=CHAT_KEYS),
    )
    for proof in proofs:
        await stage.attack(stage.sign(payer, f"{deal.path}/approve", deal.seen | {"proof": proof}))
    proven, again = [await stage.request(ABOVE, payer=payer) for _ in range(2)]
    stage.agree(proven)
    named = str(UUID(bytes=new_id()))
    honest = proven.seen | {"proof": payer.step_up(_text(proven), jti=named)}
    await stage.act(stage.sign(payer, f"{proven.path}/approve", honest))
    spent = payer.step_up(_text(again), jti=named)
    await stage.attack(stage.sign(payer, f"{again.path}/approve", again.seen | {"proof": spent}))


async def forge_tokens(stage: ApproveStage) -> None:
    """Access tokens, tokens for another tenant or audience, and such as the chat never signed."""
    deal = await stage.request()
    path = f"{deal.path}/approve"
    changes: tuple[dict[str, Any], ...] = (
        {"iss": "tchat", "aud": "tchat", "digest": None},
        {"aud": "tchat"},
        {"aud": None},
        {"digest": None},
        {"digest": ""},
        {"signed_by": _UNKNOWN_KEYS},
        {"sub": str(stage.mallory.id)},
    )
    for changed in changes:
        await stage.attack(stage.sign(deal.payer, path, deal.seen, **changed))
    unjudged = deal.payer.payment(stage.mallory, 100)
    await stage.attack(stage.sign(deal.payer, "/v1/payments", unjudged, aud=PERSON_AUDIENCE))
    proven = deal.payer.prove(deal.payment["id"], deal.seen)
    await stage.attack(stage.sign(deal.payer, path, proven, tenant=2))
    for forge in (_unsigned, _signed_by_anybody, _signed_with_the_public_key):
        await stage.attack(forge(stage.sign(deal.payer, path, deal.seen)))


async def take_steps_of_others(stage: ApproveStage) -> None:
    """Who is not the payee captures, cancels and refunds; who is not the payer declines."""
    asked, held, paid = await stage.request(), await stage.send_held(), await stage.pay()
    for deal in (asked, held, paid):
        strangers = [deal.payer, stage.mallory, stage.bot]
        for step in ("capture", "cancel", "refund"):
            for who in strangers:
                await stage.attack(
                    stage.sign(who, f"{deal.path}/{step}", {"amount_minor": 1} if step != "cancel" else None)
                )
            await stage.attack_as_service(stage.rng.choice(stage.services), f"{deal.path}/{step}")
    for who in (asked.payee, stage.mallory):
        await stage.attack(stage.sign(who, f"{asked.path}/decline"))


async def take_it_twice(stage: ApproveStage) -> None:
    """Two devices of a payee capture, then two refund: each is meant once."""
    deal = await stage.send_held()
    amount = deal.payment["amount_minor"]
    taken = stage.rng.choice((amount, amount // 2))
    for step, part in ((PaymentStep.CAPTURE, taken), (PaymentStep.REFUND, taken)):
        stage.agree_to_step(deal, step, part)
        signed = [
            stage.sign(each, f"{deal.path}/{step.text}", {"amount_minor": part})
            for each in (deal.payee, stage.other_device(deal.payee))
        ]
        await asyncio.gather(stage.act(signed[0]), stage.attack(signed[0]), stage.attack(signed[1]))


async def approve_what_has_ended(stage: ApproveStage) -> None:
    """An approval that was kept back, and comes after its payment was declined or cancelled."""
    deal = await stage.request()
    kept = stage.sign(deal.payer, f"{deal.path}/approve", deal.seen)
    step, who = stage.rng.choice(((PaymentStep.DECLINE, deal.payer), (PaymentStep.CANCEL, deal.payee)))
    stage.agree_to_step(deal, step)
    await stage.act(stage.sign(who, f"{deal.path}/{step.text}"))
    await stage.attack(kept)
    again = stage.sign(deal.payer, f"{deal.path}/approve", deal.seen | {"version": 2})
    await stage.attack(again)


async def move_without_payments(stage: ApproveStage) -> None:
    """Transfers between wallets, by people and by services, from a wallet that is not theirs."""
    victim = stage.rng.choice(stage.people)
    wallet, own = [await _wallet(each) for each in (victim, stage.mallory)]
    legs = {"legs": [{"from_wallet": wallet, "to_wallet": own, "amount_minor": 100}]}
    for who in (stage.mallory, victim, stage.bot):
        await stage.attack(stage.sign(who, "/v1/transfers", legs))
    for service in stage.services:
        await stage.attack_as_service(service, "/v1/transfers", legs)


def _text(deal: Deal) -> bytes:
    """What proves an approval."""
    return approval_text(UUID(deal.payment["id"]), msgspec.convert(deal.seen, Approval))


async def _wallet(of: Party) -> str:
    (found,) = (await of.read("wallets"))["wallets"]
    return str(found["id"])


def _unsigned(signed: Signed) -> Signed:
    return dataclasses.replace(signed, token=jwt.encode(_claims(signed), "", algorithm="none"))


def _signed_by_anybody(signed: Signed) -> Signed:
    token = jwt.encode(_claims(signed), Ed25519PrivateKey.generate(), "EdDSA", headers={"kid": CHAT_KEYS.kid})
    return dataclasses.replace(signed, token=token)


def _signed_with_the_public_key(signed: Signed) -> Signed:
    public = CHAT_KEYS.as_jwks()["keys"][0]["x"]
    token = jwt.encode(_claims(signed), public, "HS256", headers={"kid": CHAT_KEYS.kid})
    return dataclasses.replace(signed, token=token)


def _claims(signed: Signed) -> dict[str, Any]:
    return dict(jwt.decode(signed.token, options={"verify_signature": False}))


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        replay_requests,
        use_tokens_for_other_requests,
        come_late,
        approve_on_two_devices,
        show_something_else,
        approve_for_others,
        forge_proofs,
        forge_proofs_of_sends,
        forge_step_ups,
        forge_tokens,
        take_steps_of_others,
        take_it_twice,
        approve_what_has_ended,
        move_without_payments,
    )
}
