"""What objects change in the ledger: once, whatever is read of them, and summed as the gateway counts."""

from __future__ import annotations

import itertools

import pytest

from protocol.commerce.intent_states import EffectKind
from server.commerce.gateways.effects import Effect, effects_of
from server.commerce.gateways.gateway_objects import STATUSES, ObjectKind, ObjectStatus
from tests.server.commerce.gateways.objects import make_object

K, S = ObjectKind, ObjectStatus

LIVES: list[tuple[ObjectKind, list[ObjectStatus], int]] = [
    (K.CHARGE, [S.PENDING, S.SUCCEEDED], 1000),
    (K.CHARGE, [S.PENDING, S.FAILED], 0),
    (K.CHARGE, [S.PENDING, S.EXPIRED], 0),
    (K.PAYMENT, [S.SUCCEEDED], 1000),
    (K.REFUND, [S.PENDING, S.SUCCEEDED], -1000),
    (K.REFUND, [S.PENDING, S.FAILED], 0),
    (K.REFUND, [S.PENDING, S.SUCCEEDED, S.RETURNED], 0),
    (K.PAYOUT, [S.PENDING, S.SUCCEEDED], -1000),
    (K.PAYOUT, [S.PENDING, S.FAILED], 0),
    (K.PAYOUT, [S.PENDING, S.SUCCEEDED, S.RETURNED], 0),
    (K.CHARGEBACK, [S.OPEN, S.WON], 0),
    (K.CHARGEBACK, [S.OPEN, S.LOST], -1000),
]
"""Every life of an object, and what the gateway owes us more in the end."""

each_life = pytest.mark.parametrize(("kind", "life", "change_minor"), LIVES)


def effects_at(kind: ObjectKind, status: ObjectStatus) -> list[Effect]:
    return effects_of("g", make_object(kind, status))


def test_the_lives_have_every_status_of_every_kind() -> None:
    seen = {kind: {status for each, life, _ in LIVES if each is kind for status in life} for kind in ObjectKind}
    assert seen == STATUSES


@each_life
def test_effects_only_get_more(kind: ObjectKind, life: list[ObjectStatus], change_minor: int) -> None:
    del change_minor
    for before, after in itertools.pairwise(life):
        assert effects_at(kind, after)[: len(effects_at(kind, before))] == effects_at(kind, before)


@each_life
def test_whichever_versions_are_read_in_whatever_order_the_sum_is_that_of_the_last(
    kind: ObjectKind, life: list[ObjectStatus], change_minor: int
) -> None:
    for missed in ([], *[[status] for status in life[:-1]]):
        read = [status for status in life if status not in missed]
        for order in itertools.permutations(read * 2):
            applied = {effect.key: effect.change_minor for status in order for effect in effects_at(kind, status)}
            assert sum(applied.values()) == change_minor


def test_every_effect_is_of_one_kind_of_object() -> None:
    kinds = [(effect.kind, kind) for kind, life, _ in LIVES for status in life for effect in effects_at(kind, status)]
    assert {effect for effect, _ in kinds} == set(EffectKind)
    assert len(set(kinds)) == len(EffectKind)


def test_a_charge_has_the_effect_of_what_was_paid_not_of_what_was_asked() -> None:
    [effect] = effects_of("g", make_object(K.CHARGE, S.SUCCEEDED, paid_minor=900))
    assert effect == Effect(
        gateway="g", object_id="ob_1", kind=EffectKind.CHARGE_PAID, change_minor=900, currency="THB"
    )


def test_a_code_that_was_paid_has_no_effect_beside_its_payments() -> None:
    assert effects_of("g", make_object(K.CHARGE, S.SUCCEEDED, paid_minor=0, qr="00020101")) == []


def test_the_same_object_at_two_gateways_has_two_effects() -> None:
    found = make_object(K.PAYMENT, S.SUCCEEDED)
    assert effects_of("g", found)[0].key != effects_of("h", found)[0].key
